#include "ops/s4_kernel.h"
#include "runtime.h"
#include "s4.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;

// Diagonal: step l = kBlock·i + j takes Ā^l = Ā^{kBlock·i} · Ā^j; both factors are found in f64.
constexpr int kBlock = 128;

struct DiagonalArgs {
  S4System system;
  Rows<float> K;
  int length, blocks;
  global<float> fine;    // (channels, d_state, 2, kBlock) Ā^j
  global<float> coarse;  // (channels, blocks, d_state, 2) 2·C·B̄·Ā^{kBlock·i}, conjugated
};

// One state of one channel.
__global__ void __launch_bounds__(kThreads) find_powers(DiagonalArgs a) {
  const S4System& s = a.system;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(s.channels) * s.d_state) return;
  const int c = int(i / s.d_state), n = int(i % s.d_state);
  const S4Step step = s4_step(s.method, s.A(c, n), s.dt(c));
  const Z A = Z{1, 0} + step.growth;
  const global<float> fine = a.fine + i * 2 * kBlock;
  Z power = {1, 0};
  for (int j = 0; j < kBlock; ++j, power = power * A) fine[j] = float(power.re), fine[kBlock + j] = float(power.im);
  Z weight = 2.0 * (s.C(c, n) * s.B(c, n) * step.input);
  for (int b = 0; b < a.blocks; ++b, weight = weight * power) {
    const global<float> coarse = a.coarse + ((int64_t(c) * a.blocks + b) * s.d_state + n) * 2;
    coarse[0] = float(weight.re), coarse[1] = float(-weight.im);
  }
}

// A step a thread.
__global__ void __launch_bounds__(kBlock) multiply_powers(DiagonalArgs a) {
  const int d_state = a.system.d_state, c = int(blockIdx.y), j = int(threadIdx.x);
  const int64_t l = int64_t(blockIdx.x) * kBlock + j;
  if (l >= a.length) return;
  const global<const float> coarse = a.coarse + (int64_t(c) * a.blocks + blockIdx.x) * d_state * 2;
  const global<const float> fine = a.fine + int64_t(c) * d_state * 2 * kBlock + j;
  float sum = 0;
  for (int n = 0; n < 2 * d_state; ++n) sum += coarse[n] * fine[n * int64_t(kBlock)];
  a.K[c][l] = sum;
}

// With P: the generating function Σ_l K_l x^l = 2/(1+x) · C (g - A)⁻¹ B, g = (2/dt)(1-x)/(1+x), at m points x =
// radius·e^{-2πi j/m}, and its inverse transform, in f64. At radius^m = 1e-8 later coefficients alias onto the first
// ones below f32's rounding.
struct CauchyArgs {
  S4System system;
  Rows<float> K;
  int length, m, bits;  // m = 2^bits points
  int span;             // of a pass: its points lie so far apart
  double log_radius;
  global<Z> x;           // (channels, m)
  global<double> pairs;  // (channels, d_state, 10)
};

// Σ over conjugate pairs of v/(g-λ) + v̄/(g-λ̄) = (2 Re(v)·g - 2 Re(v λ̄)) / (g² - 2 Re(λ)·g + |λ|²), the four numerators
// v = C B, C P, P* B, P* P of Woodbury's identity over one denominator: 2 Re λ, |λ|², then 2 Re v and 2 Re(v λ̄) of
// each.
__global__ void __launch_bounds__(kThreads) find_pairs(CauchyArgs a) {
  const S4System& s = a.system;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(s.channels) * s.d_state) return;
  const int c = int(i / s.d_state), n = int(i % s.d_state);
  const Z A = s.A(c, n), B = s.B(c, n), C = s.C(c, n), P = s.P(c, n);
  const global<double> pair = a.pairs + i * 10;
  if (keeps_nothing(A)) {  // keeps nothing, gives nothing
    for (int k = 0; k < 10; ++k) pair[k] = k == 1 ? 1 : 0;
    return;
  }
  pair[0] = 2 * A.re, pair[1] = A.re * A.re + A.im * A.im;
  const Z v[4] = {C * B, C * P, conjugate(P) * B, conjugate(P) * P};
#pragma unroll
  for (int k = 0; k < 4; ++k) pair[2 + 2 * k] = 2 * v[k].re, pair[3 + 2 * k] = 2 * (v[k] * conjugate(A)).re;
}

__device__ inline int reversed(int i, int bits) {
  int r = 0;
  for (int b = 0; b < bits; ++b) r |= (i >> b & 1) << (bits - 1 - b);
  return r;
}

// One point of one channel, and the conjugate at the mirrored one; stored in the order that the transform takes.
__global__ void __launch_bounds__(kThreads) evaluate(CauchyArgs a) {
  const S4System& s = a.system;
  const int points = a.m / 2 + 1;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(s.channels) * points) return;
  const int c = int(i / points), j = int(i % points);
  double sine, cosine;
  sincospi(2.0 * j / a.m, &sine, &cosine);
  const double radius = exp(a.log_radius);
  const Z at = {radius * cosine, -radius * sine};
  const Z scale = inverse(Z{1, 0} + at), g = (2 / s.dt(c)) * ((Z{1, 0} - at) * scale), gg = g * g;
  Z k[4] = {};
  for (int n = 0; n < s.d_state; ++n) {
    const global<const double> pair = a.pairs + (int64_t(c) * s.d_state + n) * 10;
    const Z d = inverse(Z{gg.re - pair[0] * g.re + pair[1], gg.im - pair[0] * g.im}), gd = g * d;
#pragma unroll
    for (int v = 0; v < 4; ++v) k[v] = k[v] + (pair[2 + 2 * v] * gd - pair[3 + 2 * v] * d);
  }
  const Z value = 2.0 * (scale * (k[0] - k[1] * k[2] * inverse(Z{1, 0} + k[3])));
  const global<Z> x = a.x + int64_t(c) * a.m;
  x[reversed(j, a.bits)] = value;
  if (j > 0 && 2 * j < a.m) x[reversed(a.m - j, a.bits)] = conjugate(value);
}

// One butterfly of one pass of x_l = Σ_j x_j e^{2πi jl/m}.
__global__ void __launch_bounds__(kThreads) transform_pass(CauchyArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(a.system.channels) * (a.m / 2)) return;
  const int64_t c = i / (a.m / 2), b = i % (a.m / 2), k = b % a.span;
  const global<Z> x = a.x + c * a.m + b / a.span * 2 * a.span + k;
  double sine, cosine;
  sincospi(double(k) / a.span, &sine, &cosine);
  const Z low = x[0], high = x[a.span] * Z{cosine, sine};
  x[0] = low + high, x[a.span] = low - high;
}

__global__ void __launch_bounds__(kThreads) store_real(CauchyArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(a.system.channels) * a.length) return;
  const int64_t c = i / a.length, l = i % a.length;
  a.K[c][l] = float(a.x[c * a.m + l].re / a.m * exp(-a.log_radius * double(l)));
}

void diagonal(const S4Kernel& op) {
  const S4System system(op);
  const int length = int(op.K[1]), blocks = int(ceil_div(length, kBlock));
  const int64_t states = int64_t(system.channels) * system.d_state;
  const Scratch<float> fine(states * 2 * kBlock), coarse(states * 2 * blocks);
  const DiagonalArgs args{system, op.K, length, blocks, fine.data(), coarse.data()};
  launch(find_powers, {ceil_div(states, kThreads)}, kThreads, args);
  launch(multiply_powers, {blocks, system.channels}, kBlock, args);
}

void low_rank(const S4Kernel& op) {
  const S4System system(op);
  const int length = int(op.K[1]);
  int bits = 0;
  while (1 << bits < length) ++bits;
  const int m = 1 << bits;
  const int64_t channels = system.channels;
  const Scratch<Z> x(channels * m);
  const Scratch<double> pairs(channels * system.d_state * 10);
  CauchyArgs args{system, op.K, length, m, bits, 0, log(1e-8) / m, x.data(), pairs.data()};
  launch(find_pairs, {ceil_div(channels * system.d_state, kThreads)}, kThreads, args);
  launch(evaluate, {ceil_div(channels * (m / 2 + 1), kThreads)}, kThreads, args);
  for (args.span = 1; args.span < m; args.span *= 2)
    launch(transform_pass, {ceil_div(channels * (m / 2), kThreads)}, kThreads, args);
  launch(store_real, {ceil_div(channels * length, kThreads)}, kThreads, args);
}

}  // namespace

template <>
void run(const S4Kernel& op) {
  if (op.K[1] == 0 || op.A[0] == 0) return;
  op.P ? low_rank(op) : diagonal(op);
}

}  // namespace statespace::cuda
