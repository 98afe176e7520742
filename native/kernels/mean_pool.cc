#include "ops/mean_pool.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Tokens that are summed before their sum is added to the whole: keeps the rounding of long sequences small.
constexpr int64_t kTokens = 256;

F column_mean(const Tensor& x, int64_t begin, int64_t end, int64_t c, int m) {
  if (begin == end) return zero();
  F total = zero();
  for (int64_t block = begin; block < end; block += kTokens) {
    F part = zero();
    for (int64_t t = block; t < end && t < block + kTokens; ++t) part = part + load(x.row(t) + c, m);
    total = total + part;
  }
  return total / set(float(end - begin));
}

}  // namespace

template <>
void run(const MeanPool& op, Context& cx) {
  const int64_t channels = op.x[1], blocks = ceil_div(channels, kLanes);
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, c = i % blocks * kLanes;
    const int m = channels - c < kLanes ? int(channels - c) : kLanes;
    store(op.y.row(s) + c, column_mean(op.x, sequences.begin(s), sequences.end(s), c, m), m);
  });
}

}  // namespace statespace::STATESPACE_ISA
