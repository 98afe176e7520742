#include "ops/embedding.h"

#include <cstring>

#include "backend/kernels.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Embedding& op, Context& cx) {
  const int32_t* ids = op.ids.i32();
  const int64_t d_model = op.y[1];
  cx.parallel_for(op.y[0], [&](int64_t t, int) {
    float* y = op.y.row(t);
    weight_row(op.weight, ids[t], y);
    if (op.scale != 1)
      for (int64_t i = 0; i < d_model; ++i) y[i] *= op.scale;
  });
}

// A piece of work is a range of channels over all tokens: no two write one place, and sums are in the order of tokens.
template <>
void run(const EmbeddingBackward& op, Context& cx) {
  if (!op.dweight) return;
  constexpr int64_t kChannels = 64;
  const int32_t* ids = op.ids.i32();
  const int64_t d_model = op.dy[1], vocab = op.dweight[0];
  if (!op.accumulate)
    for_row_blocks(cx, vocab, d_model, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) std::memset(op.dweight.row(i), 0, d_model * sizeof(float));
    });
  const F scale = set(op.scale);
  cx.parallel_for(ceil_div(d_model, kChannels), [&](int64_t task, int) {
    const int64_t first = task * kChannels, last = std::min(d_model, first + kChannels);
    for (int64_t t = 0; t < op.dy[0]; ++t) {
      cx.check_stop();
      const float* dy = op.dy.row(t);
      float* to = op.dweight.row(ids[t]);
      for (int64_t c = first; c < last; c += kLanes) {
        const int m = lanes_of(last - c);
        store(to + c, fma(scale, load(dy + c, m), load(to + c, m)), m);
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
