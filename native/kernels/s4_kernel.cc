#include "ops/s4_kernel.h"

#include "backend/kernels.h"
#include "kernels/product.h"
#include "kernels/s4_nodes.h"
#include "kernels/s4_system.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

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

// The generating function at its nodes, and its inverse transform.
void cauchy(const S4Kernel& op, int64_t c, const Z* roots, Z* x, S4Pair* pairs, const Context& cx) {
  const int64_t n_state = op.A[1], length = op.K[1], m = s4_nodes(length);
  const double dt = s4_dt(op.log_dt, c), log_radius = s4_log_radius(m);
  for (int64_t n = 0; n < n_state; ++n) pairs[n] = S4Pair(op.A, op.B, op.C, op.P, c, n);
  for (int64_t j = 0; j <= m / 2; ++j) {
    if (j % kHeardNodes == 0) cx.check_stop();
    const S4Node node(roots, j, m, dt);
    Z k[4];
    s4_sums(pairs, n_state, node.g, k);
    x[j] = 2.0 * (node.scale * (k[0] - k[1] * k[2] * inverse(Z{1, 0} + k[3])));
    if (j > 0) x[m - j] = conjugate(x[j]);
  }
  inverse_dft(x, m, roots, cx);
  for (int64_t l = 0; l < length; ++l) {
    if (l % kHeardNodes == 0) cx.check_stop();
    op.K.row(c)[l] = float(x[l].re / double(m) * std::exp(-log_radius * double(l)));
  }
}

}  // namespace

template <>
void run(const S4Kernel& op, Context& cx) {
  const int64_t channels = op.A[0], n_state = op.A[1], m = s4_nodes(op.K[1]);
  if (op.K[1] == 0) return;
  if (!op.P)
    return cx.parallel_for(channels, [&](int64_t c, int worker) {
      vandermonde(op, c, cx.local<float>(worker, vandermonde_scratch(op)), cx);
    });
  Z* roots = cx.shared<Z>(m);
  s4_roots(cx, m, roots);
  cx.parallel_for(channels, [&](int64_t c, int worker) {
    S4Pair* pairs = reinterpret_cast<S4Pair*>(cx.local<char>(worker, n_state * sizeof(S4Pair) + (m + 1) * sizeof(Z)));
    cauchy(op, c, roots, reinterpret_cast<Z*>(pairs + n_state), pairs, cx);
  });
}

}  // namespace statespace::STATESPACE_ISA
