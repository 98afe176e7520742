#pragma once
// S4's parameters of one channel, discretised in f64: powers of Ā run over the whole sequence, and the rounding of an
// f32 Ā to the power of a few thousand would be seen in the output.
#include <cmath>

#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

struct Z {
  double re, im;
};
inline Z operator+(Z a, Z b) { return {a.re + b.re, a.im + b.im}; }
inline Z operator-(Z a, Z b) { return {a.re - b.re, a.im - b.im}; }
inline Z operator*(Z a, Z b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Z operator*(double a, Z b) { return {a * b.re, a * b.im}; }
inline Z conjugate(Z a) { return {a.re, -a.im}; }
inline Z inverse(Z a) {
  const double d = 1 / (a.re * a.re + a.im * a.im);
  return {a.re * d, -a.im * d};
}

// e^log_dt, as far as the squares of its products with A do not overflow.
inline double s4_dt(const Tensor& log_dt, int64_t c) {
  const double log = log_dt.f32()[c];
  return std::exp(log > 200 ? 200 : log);
}

// Value n of channel c, real (channels, n) or complex (channels, n, 2).
inline Z s4_value(const Tensor& t, int64_t c, int64_t n) {
  const float* row = t.row(c);
  return t.rank == 2 ? Z{row[n], 0} : Z{row[2 * n], row[2 * n + 1]};
}

enum S4Method : int32_t { kZoh, kBilinear };

// Ā - 1 and B̄ / B of one state.
struct S4Step {
  Z growth, input;
};
inline S4Step s4_step(int32_t method, Z a, double dt) {
  if (std::isinf(a.re) && a.re < 0) return {{method == kBilinear ? -2.0 : -1.0, 0}, {0, 0}};  // the limit
  const Z x = dt * a;
  if (method == kBilinear) {
    const Z d = inverse(Z{1, 0} - 0.5 * x);
    return {x * d, dt * d};
  }
  // e^x - 1 without cancellation
  const double half = std::sin(x.im / 2), size = std::expm1(x.re);
  const Z growth = {size * std::cos(x.im) - 2 * half * half, std::exp(x.re) * std::sin(x.im)};
  return {growth, a.re == 0 && a.im == 0 ? Z{dt, 0} : growth * inverse(a)};
}

}  // namespace statespace::STATESPACE_ISA
