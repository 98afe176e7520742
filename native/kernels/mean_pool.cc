#include "ops/mean_pool.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Tokens that are summed before their sum is added to the whole: keeps the rounding of long sequences small.
constexpr int64_t kTokens = 256;

// The mean of `count` values, of which tokens [begin, end) are the last and `before` is that of the others.
F column_mean(const Tensor& x, int64_t begin, int64_t end, int64_t c, int m, F before, int64_t count,
              const Context& cx) {
  if (begin == end) return before;
  F total = zero();
  for (int64_t block = begin; block < end; block += kTokens) {
    cx.check_stop();
    F part = zero();
    for (int64_t t = block; t < end && t < block + kTokens; ++t) part = part + load(x.row(t) + c, m);
    total = total + part;
  }
  return before + fnma(set(float(end - begin)), before, total) / set(float(count));
}

}  // namespace

template <>
void run(const MeanPool& op, Context& cx) {
  const int64_t channels = op.x[1], blocks = ceil_div(channels, kLanes);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, c = i % blocks * kLanes, begin = sequences.begin(s), end = sequences.end(s);
    const int m = channels - c < kLanes ? int(channels - c) : kLanes;
    float* state = op.state.row(sequences.slot(s)) + c;
    const int64_t count = op.key_lengths ? op.key_lengths.i32()[s] : end - begin;
    const F before = count > end - begin ? load(state, m) : zero();
    const F mean = column_mean(op.x, begin, end, c, m, before, count, cx);
    store(state, mean, m);
    store(op.y.row(s) + c, mean, m);
  });
}

template <>
void run(const MeanPoolBackward& op, Context& cx) {
  if (!op.dx) return;
  const int64_t channels = op.dx[1];
  const Sequences sequences(op.cu_seqlens, {}, op.dx[0]);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), count = sequences.end(s) - begin;
    const F share = set(count ? 1 / float(count) : 0);
    cx.parallel_for(count, [&](int64_t t, int) {
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = channels - c < kLanes ? int(channels - c) : kLanes;
        store(op.dx.row(begin + t) + c, share * load(op.dy.row(s) + c, m), m);
      }
    });
  }
}

}  // namespace statespace::STATESPACE_ISA
