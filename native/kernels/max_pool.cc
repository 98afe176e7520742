#include "ops/max_pool.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const MaxPool& op, Context& cx) {
  const int64_t channels = op.x[1], blocks = ceil_div(channels, kLanes);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, c = i % blocks * kLanes;
    const int m = channels - c < kLanes ? int(channels - c) : kLanes;
    float* state = op.state.row(sequences.slot(s)) + c;
    F most = load(state, m);
    for (int64_t t = sequences.begin(s); t < sequences.end(s); ++t) {
      cx.check_stop();
      most = max(most, load(op.x.row(t) + c, m));
    }
    store(state, most, m);
    store(op.y.row(s) + c, most, m);
  });
}

template <>
void run(const MaxPoolBackward& op, Context& cx) {
  if (!op.dx) return;
  const int64_t channels = op.x[1], blocks = ceil_div(channels, kLanes);
  const Sequences sequences(op.cu_seqlens, {}, op.x[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, c = i % blocks * kLanes, begin = sequences.begin(s), end = sequences.end(s);
    const int m = channels - c < kLanes ? int(channels - c) : kLanes;
    if (begin == end) return;
    int64_t first[kLanes];
    for (int l = 0; l < m; ++l) first[l] = begin;
    for (int64_t t = begin; t < end; ++t) {
      cx.check_stop();
      store(op.dx.row(t) + c, zero(), m);
      for (int l = 0; l < m; ++l)
        if (op.x.row(t)[c + l] > op.x.row(first[l])[c + l]) first[l] = t;
    }
    for (int l = 0; l < m; ++l) op.dx.row(first[l])[c + l] = op.dy.row(s)[c + l];
  });
}

}  // namespace statespace::STATESPACE_ISA
