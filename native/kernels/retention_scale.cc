#include "ops/retention_scale.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

// γ^0 + … + γ^p in closed form; in f64, as 1 - γ is 1e-4 and less in the slow heads.
inline double sum_of_powers(double log_decay, int64_t p) {
  return log_decay == 0 ? double(p + 1) : ::expm1(log_decay * double(p + 1)) / ::expm1(log_decay);
}

}  // namespace

template <>
void run(const RetentionScale& op, Context& cx) {
  const int64_t nheads = op.x[1], values = op.x[2];
  for_row_blocks(cx, op.x[0], nheads * values, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = op.positions ? op.positions.i32()[t] : t;
      for (int64_t h = 0; h < nheads; ++h) {
        const F scale = set(float(1 / ::sqrt(sum_of_powers(op.log_decay.f32()[h], p))));
        const float* x = op.x.row(t) + h * values;
        float* y = op.y.row(t) + h * values;
        for (int64_t i = 0; i < values; i += kLanes) {
          const int m = lanes_of(values - i);
          store(y + i, load(x + i, m) * scale, m);
        }
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
