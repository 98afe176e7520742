#include "ops/reverse.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Reverse& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  const size_t row_bytes = size_t(op.x[1]) * sizeof(float);
  constexpr int64_t kTokens = 32;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), end = sequences.end(s);
    cx.parallel_for(ceil_div(end - begin, kTokens), [&](int64_t i, int) {
      const int64_t first = begin + i * kTokens, last = first + kTokens < end ? first + kTokens : end;
      for (int64_t t = first; t < last; ++t) std::memcpy(op.y.row(t), op.x.row(begin + end - 1 - t), row_bytes);
    });
  }
}

template <>
void run(const ReverseBackward& op, Context& cx) {
  if (!op.dx) return;
  Reverse reverse;
  reverse.x = op.dy, reverse.cu_seqlens = op.cu_seqlens, reverse.y = op.dx;
  run(reverse, cx);
}

}  // namespace statespace::STATESPACE_ISA
