#pragma once
// S4's parameters of one channel, discretised in f64: powers of Ā run over the whole sequence, and the rounding of an
// f32 Ā to the power of a few thousand would be seen in the output.
#include <cfloat>

#include "views.h"

namespace statespace::cuda {

struct alignas(16) Z {
  double re, im;
};
__device__ inline Z operator+(Z a, Z b) { return {a.re + b.re, a.im + b.im}; }
__device__ inline Z operator-(Z a, Z b) { return {a.re - b.re, a.im - b.im}; }
__device__ inline Z operator*(Z a, Z b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
__device__ inline Z operator*(double a, Z b) { return {a * b.re, a * b.im}; }
__device__ inline Z conjugate(Z a) { return {a.re, -a.im}; }
__device__ inline Z inverse(Z a) {
  const double d = 1 / (a.re * a.re + a.im * a.im);
  return {a.re * d, -a.im * d};
}

// (channels, d_state), real or complex.
struct S4Values {
  Rows<const float> rows;
  bool complex = false;

  S4Values() = default;
  S4Values(const Tensor& t) : rows(t), complex(t.rank == 3) {}
  __device__ Z operator()(int c, int n) const {
    const global<const float> row = rows[c];
    return complex ? Z{row[2 * n], row[2 * n + 1]} : Z{row[n], 0};
  }
};

// A = -∞, from f32: its limit is meant.
__device__ inline bool keeps_nothing(Z a) { return a.re < -FLT_MAX; }

enum S4Method : int32_t { kZoh, kBilinear };

// Ā - 1 and B̄ / B of one state.
struct S4Step {
  Z growth, input;
};
__device__ inline S4Step s4_step(int32_t method, Z a, double dt) {
  if (keeps_nothing(a)) {
    const double growth = method == kBilinear ? -2 : -1;
    return {{growth, 0}, {0, 0}};
  }
  const Z x = dt * a;
  if (method == kBilinear) {
    const Z d = inverse(Z{1, 0} - 0.5 * x);
    return {x * d, dt * d};
  }
  // e^x - 1 without cancellation
  const double half = sin(x.im / 2), size = expm1(x.re);
  S4Step step = {{size * cos(x.im) - 2 * half * half, exp(x.re) * sin(x.im)}, {dt, 0}};
  if (a.re != 0 || a.im != 0) step.input = step.growth * inverse(a);  // as a ?: in braces nvcc 13.0's cicc crashes
  return step;
}

// (1 - dt/2 a)⁻¹
__device__ inline Z s4_implicit(Z a, double dt) {
  if (keeps_nothing(a)) return {0, 0};
  return inverse(Z{1, 0} - (0.5 * dt) * a);
}

// An op's system.
struct S4System {
  S4Values A, B, C, P;
  global<const float> log_dt;
  int channels, d_state;
  int32_t method;

  template <class Op>
  explicit S4System(const Op& op)
      : A(op.A),
        B(op.B),
        C(op.C),
        P(op.P),
        log_dt(global_data<const float>(op.log_dt)),
        channels(int(op.A[0])),
        d_state(int(op.A[1])),
        method(op.method) {}
  // As far as the squares of its products with A do not overflow.
  __device__ double dt(int c) const { return exp(log_dt[c] > 200 ? 200.0 : double(log_dt[c])); }
};

}  // namespace statespace::cuda
