#include "ops/affine.h"

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Affine& op, Context& cx) {
  const int64_t channels = op.x[1];
  const float *scale = op.scale.f32(), *shift = op.shift ? op.shift.f32() : nullptr;
  for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* x = op.x.row(t);
      float* y = op.y.row(t);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = lanes_of(channels - c);
        store(y + c, fma(load(scale + c, m), load(x + c, m), shift ? load(shift + c, m) : zero()), m);
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
