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

// Its own gradient: both ways x is divided by a constant.
void divide(const Tensor& from, const Tensor& log_decay, const Tensor& positions, const Tensor& to, Context& cx) {
  const int64_t nheads = from[1], values = from[2];
  for_row_blocks(cx, from[0], nheads * values, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = positions ? positions.i32()[t] : t;
      for (int64_t h = 0; h < nheads; ++h) {
        const F scale = set(float(1 / ::sqrt(sum_of_powers(log_decay.f32()[h], p))));
        const float* x = from.row(t) + h * values;
        float* y = to.row(t) + h * values;
        for (int64_t i = 0; i < values; i += kLanes) {
          const int m = lanes_of(values - i);
          store(y + i, load(x + i, m) * scale, m);
        }
      }
    }
  });
}

}  // namespace

template <>
void run(const RetentionScale& op, Context& cx) {
  divide(op.x, op.log_decay, op.positions, op.y, cx);
}

template <>
void run(const RetentionScaleBackward& op, Context& cx) {
  if (op.dx) divide(op.dy, op.log_decay, op.positions, op.dx, cx);
}

}  // namespace statespace::STATESPACE_ISA
