#include "ops/token_shift.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"
#include "ops/token_shift_mix.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Channels of one sequence that a task handles, over all its tokens: the task alone reads and writes their state.
constexpr int64_t kChannels = 512;

// Calls fn(t, c, previous, x, lanes) for every token t and vector of channels c, and carries the last token over.
template <class Op, class Fn>
void each_with_previous(const Op& op, Context& cx, Fn&& fn) {
  const int64_t channels = op.x[1], blocks = ceil_div(channels, kChannels);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, first = i % blocks * kChannels;
    const int64_t last = first + kChannels < channels ? first + kChannels : channels;
    const int64_t begin = sequences.begin(s), end = sequences.end(s);
    if (begin == end) return;
    float* state = op.state.row(sequences.slot(s));
    for (int64_t t = begin; t < end; ++t) {
      cx.check_stop();
      const float *previous = t == begin ? state : op.x.row(t - 1), *x = op.x.row(t);
      for (int64_t c = first; c < last; c += kLanes) {
        const int m = last - c < kLanes ? int(last - c) : kLanes;
        fn(t, c, load(previous + c, m), load(x + c, m), m);
      }
    }
    for (int64_t c = first; c < last; ++c) state[c] = op.x.row(end - 1)[c];
  });
}

}  // namespace

template <>
void run(const TokenShift& op, Context& cx) {
  each_with_previous(op, cx, [&](int64_t t, int64_t c, F previous, F, int m) { store(op.y.row(t) + c, previous, m); });
}

template <>
void run(const TokenShiftMix& op, Context& cx) {
  const int64_t mixes = op.mix[0], channels = op.mix[1];
  each_with_previous(op, cx, [&](int64_t t, int64_t c, F previous, F x, int m) {
    for (int64_t j = 0; j < mixes; ++j)
      store(op.y.row(t) + j * channels + c, fma(previous - x, load(op.mix.row(j) + c, m), x), m);
  });
}

}  // namespace statespace::STATESPACE_ISA
