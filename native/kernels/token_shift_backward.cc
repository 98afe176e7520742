#include "backend/kernels.h"
#include "kernels/column_sums.h"
#include "kernels/sequences.h"
#include "ops/token_shift.h"
#include "ops/token_shift_mix.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const TokenShiftBackward& op, Context& cx) {
  if (!op.dx) return;
  const Sequences sequences(op.cu_seqlens, {}, op.dy[0]);
  for_row_blocks(cx, op.dy[0], op.dy[1], [&](int64_t begin, int64_t end, int) {
    int64_t s = sequences.containing(begin);
    for (int64_t t = begin; t < end; ++t) {
      while (sequences.end(s) <= t) ++s;
      if (t + 1 < sequences.end(s))
        std::memcpy(op.dx.row(t), op.dy.row(t + 1), op.dy[1] * sizeof(float));
      else
        std::memset(op.dx.row(t), 0, op.dy[1] * sizeof(float));
    }
  });
}

template <>
void run(const TokenShiftMixBackward& op, Context& cx) {
  const int64_t mixes = op.mix[0], channels = op.mix[1];
  const Sequences sequences(op.cu_seqlens, {}, op.x[0]);
  ColumnSums sums(cx, op.x[0], mixes * channels);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    if (begin == end) return;
    int64_t s = sequences.containing(begin);
    for (int64_t t = begin; t < end; ++t) {
      while (sequences.end(s) <= t) ++s;
      const bool first = t == sequences.begin(s), last = t + 1 == sequences.end(s);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = lanes_of(channels - c);
        const F step = (first ? zero() : load(op.x.row(t - 1) + c, m)) - load(op.x.row(t) + c, m);
        F dx = zero();
        for (int64_t j = 0; j < mixes; ++j) {
          const int64_t at = j * channels + c;
          const F mix = load(op.mix.row(j) + c, m), dy = load(op.dy.row(t) + at, m);
          dx = dx + dy - mix * dy;
          if (!last) dx = fma(mix, load(op.dy.row(t + 1) + at, m), dx);
          store(part + at, fma(step, dy, load(part + at, m)), m);
        }
        if (op.dx) store(op.dx.row(t) + c, dx, m);
      }
    }
  });
  if (op.dmix)
    for (int64_t j = 0; j < mixes; ++j) sums.write(j * channels, channels, op.dmix.row(j));
}

}  // namespace statespace::STATESPACE_ISA
