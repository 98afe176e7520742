#pragma once
// S4's generating function Σ_l K_l x^l = 2/(1+x) · C (g - A)⁻¹ B, g = (2/dt)(1-x)/(1+x), A = diag(λ) - P P*, at nodes
// x = radius·e^{-2πi j/m}, and the transform between the nodes and K. On the unit circle later coefficients would alias
// onto the first ones undamped, which C·(I - Ā^m) avoids at the price of a dense power; at radius^m = 1e-8 they do so
// below f32's rounding, and f64 has the digits.
#include "core/context.h"
#include "kernels/s4_system.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

// Nodes between two looks at whether anybody waits; a power of two.
constexpr int64_t kHeardNodes = 4096;

// Nodes of a kernel of this length, a power of two.
inline int64_t s4_nodes(int64_t length) {
  int64_t m = 1;
  while (m < length) m *= 2;
  return m;
}
inline double s4_log_radius(int64_t m) { return std::log(1e-8) / double(m); }

// roots[k] = e^{2πi k/m}, k < m/2; of one node the first.
inline void s4_roots(const Context& cx, int64_t m, Z* roots) {
  constexpr double kPi = 3.14159265358979323846;
  const int64_t half = ceil_div(m, 2);
  cx.parallel_for(ceil_div(half, kHeardNodes), [&](int64_t piece, int) {
    const int64_t end = (piece + 1) * kHeardNodes < half ? (piece + 1) * kHeardNodes : half;
    for (int64_t k = piece * kHeardNodes; k < end; ++k)
      roots[k] = {std::cos(2 * kPi * double(k) / double(m)), std::sin(2 * kPi * double(k) / double(m))};
  });
}

// In place: x_l = Σ_j x_j e^{2πi jl/m}, m a power of two.
inline void inverse_dft(Z* x, int64_t m, const Z* roots, const Context& cx) {
  for (int64_t i = 1, j = 0; i < m; ++i) {  // bit reversal
    if (i % kHeardNodes == 0) cx.check_stop();
    int64_t bit = m >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) {
      const Z held = x[i];
      x[i] = x[j], x[j] = held;
    }
  }
  for (int64_t half = 1; half < m; half *= 2)
    for (int64_t block = 0; block < m; block += 2 * half) {
      if (block % kHeardNodes == 0) cx.check_stop();
      for (int64_t k = 0; k < half; ++k) {
        const Z a = x[block + k], b = x[block + k + half] * roots[k * (m / (2 * half))];
        x[block + k] = a + b, x[block + k + half] = a - b;
      }
    }
}

// Of node j, up to m/2; those behind are the conjugates.
struct S4Node {
  Z scale, g;  // 1/(1+x)
  S4Node(const Z* roots, int64_t j, int64_t m, double dt) {
    const Z at = std::exp(s4_log_radius(m)) * (2 * j < m ? conjugate(roots[j]) : Z{m > 1 ? -1.0 : 1.0, 0});
    scale = inverse(Z{1, 0} + at), g = (2 / dt) * ((Z{1, 0} - at) * scale);
  }
};

// The four numerators of Woodbury's identity and λ, of a pair of conjugate states. A state of λ = -∞ keeps nothing and
// gives nothing.
struct S4Pair {
  Z v[4], lambda;      // C B, C P, P* B, P* P
  double trace, norm;  // 2 Re λ, |λ|²
  bool gone;
  S4Pair(const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& P, int64_t channel, int64_t n) {
    const Z a = s4_value(A, channel, n), b = s4_value(B, channel, n), c = s4_value(C, channel, n),
            p = s4_value(P, channel, n);
    v[0] = c * b, v[1] = c * p, v[2] = conjugate(p) * b, v[3] = conjugate(p) * p;
    lambda = a, trace = 2 * a.re, norm = a.re * a.re + a.im * a.im;
    gone = std::isinf(a.re) && a.re < 0;
  }
};

// k_i = Σ over conjugate pairs of v_i/(g-λ) + v̄_i/(g-λ̄) = (2 Re(v_i)·g - 2 Re(v_i λ̄)) / (g² - 2 Re(λ)·g + |λ|²)
inline void s4_sums(const S4Pair* pairs, int64_t n_state, Z g, Z* k) {
  const Z gg = g * g;
  for (int i = 0; i < 4; ++i) k[i] = {0, 0};
  for (int64_t n = 0; n < n_state; ++n) {
    const S4Pair& pair = pairs[n];
    if (pair.gone) continue;
    const Z d = inverse(Z{gg.re - pair.trace * g.re + pair.norm, gg.im - pair.trace * g.im});
    const Z gd = g * d;
    for (int i = 0; i < 4; ++i) k[i] = k[i] + (2 * pair.v[i].re * gd - 2 * (pair.v[i] * conjugate(pair.lambda)).re * d);
  }
}

}  // namespace statespace::STATESPACE_ISA
