#pragma once
// The gradient of the complex selective scan, a channel at a time: pairs [re, im], gradients (∂/∂re, ∂/∂im). States of
// a whole sequence are kept for one channel.
#include <cmath>
#include <cstring>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/rate.h"
#include "kernels/sequences.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA {

struct Complex {
  float re, im;
};
inline Complex operator+(Complex a, Complex b) { return {a.re + b.re, a.im + b.im}; }
inline Complex operator*(Complex a, Complex b) { return {a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re}; }
inline Complex operator*(float s, Complex a) { return {s * a.re, s * a.im}; }
inline Complex conj(Complex a) { return {a.re, -a.im}; }
inline void operator+=(Complex& a, Complex b) { a = a + b; }

// B or C, and where its gradient is summed: per token and group, over the channels of one task; or per channel.
struct ComplexCoefficient {
  const Tensor& t;
  const bool constant;
  const int64_t d_inner;
  const Complex* at(int64_t token, int64_t channel) const {
    const float* row = constant ? t.row(channel) : t.row(token) + group(channel) * t[2] * 2;
    return reinterpret_cast<const Complex*>(row);
  }
  int64_t group(int64_t channel) const { return channel / (d_inner / t[1]); }
  Complex* gradient(const Tensor& to, Complex* sums, int64_t token, int64_t channel) const {
    if (constant) return reinterpret_cast<Complex*>(to.row(channel));
    return sums + (token * t[1] + group(channel)) * t[2];
  }
};

inline void channel_gradient(const SelectiveScanBackward& op, const ComplexCoefficient& B, const ComplexCoefficient& C,
                             const Sequences& sequences, int64_t d, Complex* states, Complex* dB, Complex* dC,
                             const Context& cx) {
  const int64_t n_state = op.A[1];
  const auto* poles = reinterpret_cast<const Complex*>(op.A.row(d));
  auto pole = [&](int64_t n) { return Complex{finite_rate(poles[n].re), poles[n].im}; };
  auto state_at = [&](const Tensor& t, int64_t s) { return reinterpret_cast<Complex*>(t.row(s)) + d * n_state; };
  auto raw = [&](int64_t t) { return op.delta.row(t)[d] + (op.delta_bias ? op.delta_bias.f32()[d] : 0); };
  auto step = [&](float p) { return op.delta_softplus && p <= 20 ? ::log1pf(::expf(p)) : p; };
  auto factor = [&](float dt, Complex a) {
    const float size = ::expf(dt * a.re);
    return Complex{size * ::cosf(dt * a.im), size * ::sinf(dt * a.im)};
  };
  auto* dA = op.dA ? reinterpret_cast<Complex*>(op.dA.row(d)) : nullptr;
  float dD = 0, dbias = 0;
  for (int64_t n = 0; dA && n < n_state; ++n) dA[n] = {0, 0};
  if (B.constant && op.dB) std::memset(op.dB.row(d), 0, n_state * sizeof(Complex));
  if (C.constant && op.dC) std::memset(op.dC.row(d), 0, n_state * sizeof(Complex));
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), end = sequences.end(s);
    Complex* adjoint = states;  // then the states before each token, and behind the last
    Complex* before = states + n_state;
    for (int64_t n = 0; n < n_state; ++n) {
      adjoint[n] = op.dlast_state ? state_at(op.dlast_state, s)[n] : Complex{0, 0};
      before[n] = op.initial_state ? state_at(op.initial_state, s)[n] : Complex{0, 0};
    }
    for (int64_t t = begin; t < end; ++t) {
      cx.check_stop();
      const float dt = step(raw(t)), u = op.u.row(t)[d];
      const Complex* h = before + (t - begin) * n_state;
      for (int64_t n = 0; n < n_state; ++n)
        before[(t - begin + 1) * n_state + n] = factor(dt, pole(n)) * h[n] + dt * u * B.at(t, d)[n];
    }
    for (int64_t t = end - 1; t >= begin; --t) {
      cx.check_stop();
      const float p = raw(t), dt = step(p), u = op.u.row(t)[d], skip = op.D ? op.D.f32()[d] : 0;
      const Complex *h = before + (t - begin) * n_state, *next = h + n_state, *b = B.at(t, d), *c = C.at(t, d);
      float g = op.dy.row(t)[d];
      if (op.z) {
        const float z = op.z.row(t)[d], sigmoid = 1 / (1 + ::expf(-z));
        float y = skip * u;
        for (int64_t n = 0; n < n_state; ++n) y += 2 * (c[n] * next[n]).re;
        if (op.dz) op.dz.row(t)[d] = g * y * sigmoid * (1 + z * (1 - sigmoid));
        g *= z * sigmoid;
      }
      float fed = 0, kept = 0;
      for (int64_t n = 0; n < n_state; ++n) {
        const Complex a = factor(dt, pole(n)), lambda = 2 * g * conj(c[n]) + adjoint[n], q = lambda * conj(a * h[n]);
        if (dA) dA[n] += dt * q;
        if (op.dB) B.gradient(op.dB, dB, t, d)[n] += dt * u * lambda;
        if (op.dC) C.gradient(op.dC, dC, t, d)[n] += 2 * g * conj(next[n]);
        fed += (lambda * conj(b[n])).re;
        kept += (q * conj(pole(n))).re;
        adjoint[n] = lambda * conj(a);
      }
      float ddt = kept + u * fed;
      if (op.delta_softplus && p <= 20) ddt /= 1 + ::expf(-p);
      if (op.ddelta) op.ddelta.row(t)[d] = ddt;
      if (op.du) op.du.row(t)[d] = skip * g + dt * fed;
      dbias += ddt, dD += g * u;
    }
    for (int64_t n = 0; op.dinitial_state && n < n_state; ++n) state_at(op.dinitial_state, s)[n] = adjoint[n];
  }
  if (op.dD) op.dD.f32()[d] = dD;
  if (op.ddelta_bias) op.ddelta_bias.f32()[d] = dbias;
}

inline void scan_complex_gradient(const SelectiveScanBackward& op, Context& cx) {
  constexpr int64_t kParts = 16;
  const int64_t tokens = op.u[0], d_inner = op.u[1], n_state = op.A[1], parts = std::min(kParts, d_inner);
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const ComplexCoefficient B{op.B, op.constant(op.B), d_inner}, C{op.C, op.constant(op.C), d_inner};
  const int64_t B_size = B.constant ? 0 : tokens * op.B[1] * n_state,
                C_size = C.constant ? 0 : tokens * op.C[1] * n_state;
  auto* sums = cx.kept<Complex>(parts * (B_size + C_size));
  std::memset(static_cast<void*>(sums), 0, parts * (B_size + C_size) * sizeof(Complex));
  cx.parallel_for(parts, [&](int64_t i, int worker) {
    auto* states = cx.local<Complex>(worker, (tokens + 2) * n_state);
    Complex* own = sums + i * (B_size + C_size);
    for (int64_t d = i * d_inner / parts; d < (i + 1) * d_inner / parts; ++d)
      channel_gradient(op, B, C, sequences, d, states, own, own + B_size, cx);
  });
  auto write = [&](const Tensor& to, int64_t offset, int64_t size) {
    for (int64_t j = 0; j < size; ++j) {
      Complex total{0, 0};
      for (int64_t i = 0; i < parts; ++i) total += sums[i * (B_size + C_size) + offset + j];
      const int64_t row = to[1] * n_state;
      reinterpret_cast<Complex*>(to.row(j / row))[j % row] = total;
    }
  };
  if (op.dB && !B.constant) write(op.dB, 0, B_size);
  if (op.dC && !C.constant) write(op.dC, B_size, C_size);
}

}  // namespace statespace::STATESPACE_ISA
