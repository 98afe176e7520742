#include "ops/s4_kernel.h"

#include "backend/kernels.h"
#include "kernels/product.h"
#include "kernels/s4_system.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Steps of a block of the Vandermonde product: l = block·i + j, Ā^l = Ā^{block·i} · Ā^j.
constexpr int64_t kBlock = 128;
// Blocks at a time: a kernel may be of any length, what it is computed in stays in the cache.
constexpr int64_t kBlocks = 256;

// K (blocks, kBlock) = coarse (blocks, 2N) · fine (2N, kBlock), with coarse = 2·C·B̄·Ā^{block·i} as [re, -im].
void vandermonde(const S4Kernel& op, int64_t c, float* scratch, const Context& cx) {
  const int64_t n_state = op.A[1], length = op.K[1], blocks = ceil_div(length, kBlock);
  Z *weights = reinterpret_cast<Z*>(scratch), *powers = weights + n_state;  // (N): of the next block; Ā^kBlock
  float* fine = reinterpret_cast<float*>(powers + n_state);
  float* coarse = fine + 2 * n_state * kBlock;
  float* K = coarse + 2 * n_state * whole_tiles(kBlocks);
  const double dt = s4_dt(op.log_dt, c);
  for (int64_t n = 0; n < n_state; ++n) {
    cx.check_stop();
    const S4Step step = s4_step(op.method, s4_value(op.A, c, n), dt);
    const Z a = Z{1, 0} + step.growth;
    Z power = {1, 0};
    for (int64_t j = 0; j < kBlock; ++j, power = power * a) {
      fine[2 * n * kBlock + j] = float(power.re);
      fine[(2 * n + 1) * kBlock + j] = float(power.im);
    }
    weights[n] = 2.0 * (s4_value(op.C, c, n) * s4_value(op.B, c, n) * step.input);
    powers[n] = power;
  }
  for (int64_t first = 0; first < blocks; first += kBlocks) {
    cx.check_stop();
    const int64_t count = std::min(kBlocks, blocks - first), from = first * kBlock;
    for (int64_t n = 0; n < n_state; ++n)
      for (int64_t i = 0; i < count; ++i, weights[n] = weights[n] * powers[n]) {
        coarse[i * 2 * n_state + 2 * n] = float(weights[n].re);
        coarse[i * 2 * n_state + 2 * n + 1] = float(-weights[n].im);
      }
    std::memset(K, 0, size_t(count * kBlock) * sizeof(float));
    add_product(count, kBlock, 2 * n_state, {coarse, 2 * n_state, 1}, fine, kBlock, K, kBlock);
    std::memcpy(op.K.row(c) + from, K, size_t(std::min(count * kBlock, length - from)) * sizeof(float));
  }
}

int64_t vandermonde_scratch(const S4Kernel& op) {
  constexpr int64_t kFloats = 2 * int64_t(sizeof(Z) / sizeof(float));
  return op.A[1] * (kFloats + 2 * (kBlock + whole_tiles(kBlocks))) + whole_tiles(kBlocks) * kBlock;
}

// Σ over conjugate pairs of v/(g-λ) + v̄/(g-λ̄) = (2 Re(v)·g - 2 Re(v λ̄)) / (g² - 2 Re(λ)·g + |λ|²), the four
// numerators v = C B, C P, P* B, P* P of Woodbury's identity over one denominator.
struct Pair {
  double trace, norm;          // 2 Re λ, |λ|²
  double slope[4], offset[4];  // 2 Re v, 2 Re(v λ̄)
};

// Nodes between two looks at whether anybody waits; a power of two.
constexpr int64_t kHeard = 4096;

// In place: x_l = Σ_j x_j e^{2πi jl/m}, m a power of two; roots[k] = e^{2πi k/m}, k < m/2.
void inverse_dft(Z* x, int64_t m, const Z* roots, const Context& cx) {
  for (int64_t i = 1, j = 0; i < m; ++i) {  // bit reversal
    if (i % kHeard == 0) cx.check_stop();
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
      if (block % kHeard == 0) cx.check_stop();
      for (int64_t k = 0; k < half; ++k) {
        const Z a = x[block + k], b = x[block + k + half] * roots[k * (m / (2 * half))];
        x[block + k] = a + b, x[block + k + half] = a - b;
      }
    }
}

int64_t nodes(int64_t length) {
  int64_t m = 1;
  while (m < length) m *= 2;
  return m;
}

// The generating function Σ_l K_l x^l = 2/(1+x) · C (g - A)⁻¹ B, g = (2/dt)(1-x)/(1+x), at x = radius·e^{-2πi j/m}, and
// its inverse transform. On the unit circle later coefficients would alias onto the first ones undamped, which C·(I -
// Ā^m) avoids at the price of a dense power; at radius^m = 1e-8 they do so below f32's rounding, and f64 has the
// digits.
void cauchy(const S4Kernel& op, int64_t c, const Z* roots, Z* x, Pair* pairs, const Context& cx) {
  const int64_t n_state = op.A[1], length = op.K[1], m = nodes(length);
  const double dt = s4_dt(op.log_dt, c), log_radius = std::log(1e-8) / double(m);
  for (int64_t n = 0; n < n_state; ++n) {
    const Z a = s4_value(op.A, c, n), b = s4_value(op.B, c, n), cc = s4_value(op.C, c, n), p = s4_value(op.P, c, n);
    if (std::isinf(a.re) && a.re < 0) {  // keeps nothing, gives nothing
      pairs[n] = {0, 1, {}, {}};
      continue;
    }
    pairs[n].trace = 2 * a.re, pairs[n].norm = a.re * a.re + a.im * a.im;
    const Z v[4] = {cc * b, cc * p, conjugate(p) * b, conjugate(p) * p};
    for (int i = 0; i < 4; ++i) pairs[n].slope[i] = 2 * v[i].re, pairs[n].offset[i] = 2 * (v[i] * conjugate(a)).re;
  }
  const double radius = std::exp(log_radius);
  for (int64_t j = 0; j <= m / 2; ++j) {
    if (j % kHeard == 0) cx.check_stop();
    const Z at = radius * (2 * j < m ? conjugate(roots[j]) : Z{m > 1 ? -1.0 : 1.0, 0});
    const Z scale = inverse(Z{1, 0} + at), g = (2 / dt) * ((Z{1, 0} - at) * scale), gg = g * g;
    Z k[4] = {};
    for (int64_t n = 0; n < n_state; ++n) {
      const Pair& pair = pairs[n];
      const Z d = inverse(Z{gg.re - pair.trace * g.re + pair.norm, gg.im - pair.trace * g.im});
      const Z gd = g * d;
      for (int i = 0; i < 4; ++i) k[i] = k[i] + (pair.slope[i] * gd - pair.offset[i] * d);
    }
    x[j] = 2.0 * (scale * (k[0] - k[1] * k[2] * inverse(Z{1, 0} + k[3])));
    if (j > 0) x[m - j] = conjugate(x[j]);
  }
  inverse_dft(x, m, roots, cx);
  for (int64_t l = 0; l < length; ++l) {
    if (l % kHeard == 0) cx.check_stop();
    op.K.row(c)[l] = float(x[l].re / double(m) * std::exp(-log_radius * double(l)));
  }
}

}  // namespace

template <>
void run(const S4Kernel& op, Context& cx) {
  const int64_t channels = op.A[0], n_state = op.A[1], m = nodes(op.K[1]);
  if (op.K[1] == 0) return;
  if (!op.P)
    return cx.parallel_for(channels, [&](int64_t c, int worker) {
      vandermonde(op, c, cx.local<float>(worker, vandermonde_scratch(op)), cx);
    });
  Z* roots = cx.shared<Z>(m);
  const int64_t half = ceil_div(m, 2);
  cx.parallel_for(ceil_div(half, kHeard), [&](int64_t piece, int) {
    for (int64_t k = piece * kHeard; k < std::min(half, (piece + 1) * kHeard); ++k)
      roots[k] = {std::cos(2 * kPi * double(k) / double(m)), std::sin(2 * kPi * double(k) / double(m))};
  });
  cx.parallel_for(channels, [&](int64_t c, int worker) {
    Pair* pairs = reinterpret_cast<Pair*>(cx.local<char>(worker, n_state * sizeof(Pair) + (m + 1) * sizeof(Z)));
    cauchy(op, c, roots, reinterpret_cast<Z*>(pairs + n_state), pairs, cx);
  });
}

}  // namespace statespace::STATESPACE_ISA
