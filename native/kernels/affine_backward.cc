#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/column_sums.h"
#include "kernels/rows.h"
#include "ops/affine.h"
#include "ops/lerp.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const AffineBackward& op, Context& cx) {
  const int64_t channels = op.x[1];
  ColumnSums sums(cx, op.x[0], 2 * channels);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = lanes_of(channels - c);
        const F dy = load(op.dy.row(t) + c, m);
        if (op.dx) store(op.dx.row(t) + c, dy * load(op.scale.f32() + c, m), m);
        store(part + c, fma(dy, load(op.x.row(t) + c, m), load(part + c, m)), m);
        store(part + channels + c, load(part + channels + c, m) + dy, m);
      }
  });
  if (op.dscale) sums.write(0, channels, op.dscale.f32());
  if (op.dshift) sums.write(channels, channels, op.dshift.f32());
}

template <>
void run(const LerpBackward& op, Context& cx) {
  const int64_t channels = op.a[1];
  const bool one = op.w.rank == 1;
  ColumnSums sums(cx, op.a[0], channels);
  sums.each_part([&](int64_t begin, int64_t end, int, float* part) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = lanes_of(channels - c);
        const F dy = load(op.dy.row(t) + c, m), w = load((one ? op.w.f32() : op.w.row(t)) + c, m);
        const F dw = dy * (load(op.b.row(t) + c, m) - load(op.a.row(t) + c, m));
        if (op.da) store(op.da.row(t) + c, dy - w * dy, m);
        if (op.db) store(op.db.row(t) + c, w * dy, m);
        if (op.dw && !one) store(op.dw.row(t) + c, dw, m);
        if (one) store(part + c, load(part + c, m) + dw, m);
      }
  });
  if (op.dw && one) sums.write(0, channels, op.dw.f32());
}

}  // namespace statespace::STATESPACE_ISA
