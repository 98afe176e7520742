// S4 step by step: a channel of a sequence a warp, states across its lanes. The step is h + (Ā - 1) h and not Ā h: the
// rounding of Ā would turn slow states by a phase that grows with time, that of Ā - 1 by far less.
//   u = h + growth h + input x - drag q,    q = P* h        (drag, pull and P only with P)
//   h = u - pull s,   s = P* u,   y = 2 Re(C h) + D x       (Woodbury's identity for the implicit half of the step)
#include "complex.h"
#include "ops/s4_recurrent.h"
#include "runtime.h"
#include "s4.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kHeld = 4;  // states of a lane in registers; more stay in memory

__device__ inline float real_product(Complex a, Complex b) { return a.re * b.re - a.im * b.im; }
__device__ inline float conjugate_product(Complex a, Complex b) { return a.re * b.re + a.im * b.im; }

enum Row { kGrowth, kInput, kC, kP, kDrag, kPull, kRowCount };

struct StepArgs {
  S4System system;
  Rows<const float> x;
  global<const float> D;
  Rows<float> y, state;
  Sequences sequences;
  bool complex, low_rank;
  global<Complex> coefficients;  // (kRowCount, channels, d_state)
  global<Complex> states;        // (sequences, channels, d_state) where they do not fit in registers

  __device__ global<Complex> row(Row r, int c) const {
    return coefficients + (int64_t(r) * system.channels + c) * system.d_state;
  }
};

// One state of one channel.
__global__ void __launch_bounds__(kThreads) find_coefficients(StepArgs a) {
  const S4System& s = a.system;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(s.channels) * s.d_state) return;
  const int c = int(i / s.d_state), n = int(i % s.d_state);
  auto put = [&](Row r, Z v) { a.row(r, c)[n] = {float(v.re), float(v.im)}; };
  const double dt = s.dt(c);
  const Z A = s.A(c, n);
  const S4Step step = s4_step(s.method, A, dt);
  put(kGrowth, step.growth);
  put(kInput, step.input * s.B(c, n));
  put(kC, 2.0 * s.C(c, n));
  if (!a.low_rank) return;
  double gain = 2 / dt;  // 2/dt + P* (1 - dt/2 Λ)⁻¹ P
  for (int k = 0; k < s.d_state; ++k) {
    const Z p = s.P(c, k);
    gain += 2 * (p.re * p.re + p.im * p.im) * s4_implicit(s.A(c, k), dt).re;
  }
  const Z p = s.P(c, n), implicit = s4_implicit(A, dt) * p;
  put(kP, 2.0 * p);
  put(kDrag, (-0.5 * dt) * implicit);
  put(kPull, (-1 / gain) * implicit);
}

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// kInRegisters: at most 32·kHeld states.
template <bool kInRegisters>
__global__ void __launch_bounds__(kThreads, 4) s4_steps(StepArgs a) {
  const S4System& system = a.system;
  const int64_t i = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  if (i >= int64_t(a.sequences.count) * system.channels) return;  // the whole warp
  const int c = int(i % system.channels), s = int(i / system.channels), d_state = system.d_state;
  const int mine = kInRegisters ? kHeld : int(ceil_div(d_state, 32));
  const int64_t pair = a.complex ? 2 : 1;
  const global<float> state = a.state[a.sequences.slot(s)] + c * d_state * pair;

  Complex held[kRowCount][kInRegisters ? kHeld : 1] = {}, h[kInRegisters ? kHeld : 1] = {};
  const global<Complex> memory = kInRegisters ? global<Complex>(nullptr) : a.states + i * d_state;
  auto each_state = [&](auto fn) {
#pragma unroll
    for (int k = 0; k < mine; ++k)
      if (lane() + 32 * k < d_state) fn(k, lane() + 32 * k);
  };
  auto get = [&](Row r, int k, int n) {
    if constexpr (kInRegisters)
      return held[r][k];
    else
      return a.row(r, c)[n];
  };
  auto value = [&](int k, int n) -> Complex& {
    if constexpr (kInRegisters)
      return h[k];
    else
      return memory[n];
  };
  each_state([&](int k, int n) {
    if constexpr (kInRegisters) {
#pragma unroll
      for (int r = 0; r < kRowCount; ++r)
        if (r < kP || a.low_rank) held[r][k] = a.row(Row(r), c)[n];
    }
    value(k, n) = a.complex ? Complex{state[2 * n], state[2 * n + 1]} : Complex{state[n], 0};
  });

  float q = 0;
  if (a.low_rank) {
    each_state([&](int k, int n) { q += conjugate_product(get(kP, k, n), value(k, n)); });
    q = warp_sum(q);
  }
  for (int t = a.sequences.begin(s); t < a.sequences.end(s); ++t) {
    const float x = a.x[t][c];
    float y = 0;
    if (a.low_rank) {
      float sum = 0;
      each_state([&](int k, int n) {
        Complex& v = value(k, n);
        v = v + q * get(kDrag, k, n) + x * get(kInput, k, n) + get(kGrowth, k, n) * v;
        sum += conjugate_product(get(kP, k, n), v);
      });
      sum = warp_sum(sum);
      q = 0;
      each_state([&](int k, int n) {
        Complex& v = value(k, n);
        v = v + sum * get(kPull, k, n);
        y += real_product(get(kC, k, n), v);
        q += conjugate_product(get(kP, k, n), v);
      });
      q = warp_sum(q);
    } else {
      each_state([&](int k, int n) {
        Complex& v = value(k, n);
        v = v + x * get(kInput, k, n) + get(kGrowth, k, n) * v;
        y += real_product(get(kC, k, n), v);
      });
    }
    y = warp_sum(y);
    if (lane() == 0) a.y[t][c] = a.D ? y + a.D[c] * x : y;
  }
  each_state([&](int k, int n) {
    const Complex v = value(k, n);
    if (a.complex)
      state[2 * n] = v.re, state[2 * n + 1] = v.im;
    else
      state[n] = v.re;
  });
}

}  // namespace

template <>
void run(const S4Recurrent& op) {
  const S4System system(op);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  const int64_t states = int64_t(system.channels) * system.d_state;
  if (sequences.tokens == 0 || states == 0) return;
  const bool in_registers = system.d_state <= 32 * kHeld;
  const Scratch<Complex> coefficients(kRowCount * states), memory(in_registers ? 1 : sequences.count * states);
  const StepArgs args{system,         op.x,       global_data<const float>(op.D),
                      op.y,           op.state,   sequences,
                      op.A.rank == 3, bool(op.P), coefficients.data(),
                      memory.data()};
  launch(find_coefficients, {ceil_div(states, kThreads)}, kThreads, args);
  const Grid grid = {ceil_div(int64_t(sequences.count) * system.channels, kThreads / 32)};
  launch(in_registers ? s4_steps<true> : s4_steps<false>, grid, kThreads, args);
}

}  // namespace statespace::cuda
