#include "ops/wkv7_bonus.h"

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Wkv7Bonus& op, Context& cx) {
  const int64_t nheads = op.r[1], keys = op.r[2], values = op.v[2];
  for_row_blocks(cx, op.x[0], nheads * (keys + values), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < nheads; ++h) {
        const float *r = op.r.row(t) + h * keys, *k = op.k.row(t) + h * keys, *u = op.u.f32() + h * keys;
        F products = zero();
        for (int64_t i = 0; i < keys; i += kLanes) {
          const int m = lanes_of(keys - i);
          products = fma(load(r + i, m) * load(u + i, m), load(k + i, m), products);
        }
        const F weight = set(sum(products));
        const float *x = op.x.row(t) + h * values, *v = op.v.row(t) + h * values;
        float* y = op.y.row(t) + h * values;
        for (int64_t i = 0; i < values; i += kLanes) {
          const int m = lanes_of(values - i);
          store(y + i, fma(weight, load(v + i, m), load(x + i, m)), m);
        }
      }
  });
}

}  // namespace statespace::STATESPACE_ISA
