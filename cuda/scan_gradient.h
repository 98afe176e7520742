#pragma once
// The adjoint scan, backwards in time, for selectiveScan and ssd: a warp takes a channel, its lanes 32 states of it.
// The states of a chunk of tokens are computed again in shared memory from the one kept at its start. A block goes over
// some channels of one group, eight at a time, and leaves the sums that they give dB and dC; parts are summed in order.
#include "complex.h"
#include "gradients.h"
#include "pointwise.h"
#include "rate.h"

namespace statespace::cuda {

// What differs between real and complex systems: y = kFactor · Re(C h), gradients are (∂/∂re, ∂/∂im).
template <class T>
struct Field;
template <>
struct Field<float> {
  static constexpr int kWords = 1;
  static constexpr float kFactor = 1;
  __device__ static float zero() { return 0; }
  __device__ static float load(global<const float> p, int64_t i) { return p[i]; }
  __device__ static void store(global<float> p, int64_t i, float v) { p[i] = v; }
  __device__ static float bounded(float A) { return finite_rate(A); }
  __device__ static float decay(float dt, float A) { return exp2f(dt * A * kLog2e); }
  __device__ static float conj(float x) { return x; }
  __device__ static float real(float x) { return x; }
};
template <>
struct Field<Complex> {
  static constexpr int kWords = 2;
  static constexpr float kFactor = 2;
  __device__ static Complex zero() { return {0, 0}; }
  __device__ static Complex load(global<const float> p, int64_t i) { return {p[2 * i], p[2 * i + 1]}; }
  __device__ static void store(global<float> p, int64_t i, Complex v) { p[2 * i] = v.re, p[2 * i + 1] = v.im; }
  __device__ static Complex bounded(Complex A) { return {finite_rate(A.re), A.im}; }
  __device__ static Complex decay(float dt, Complex A) {
    const float size = exp2f(dt * A.re * kLog2e);
    float s, c;
    sincosf(dt * A.im, &s, &c);
    return {size * c, size * s};
  }
  __device__ static Complex conj(Complex x) { return {x.re, -x.im}; }
  __device__ static float real(Complex x) { return x.re; }
};

constexpr int kScanThreads = 256, kScanChannels = kScanThreads / 32, kScanStates = 32;
constexpr int kMostParts = 64;  // of a group's channels
template <class T>
constexpr int kScanTokens = 16 / Field<T>::kWords;

// System: what differs between the ops. Of token t, channel d, state n:
//   dt(t, d)  u(t, d)  g(t, d)  A(d, n)  B(t, d, n)  C(t, d, n)  weight(A): what q is multiplied by in `kept`
template <class System>
struct ScanGradientArgs {
  System system;
  Sequences sequences;
  int channels, states, groups, parts;
  Rows<const float> initial, dlast;
  Rows<float> dinitial;
  Pieces pieces;                         // chunks of tokens
  global<float> starts;                  // (tasks, state blocks, pieces, kScanChannels, kScanStates)
  global<float> fed, kept, y;            // (state blocks, tokens, channels): Σ λ B, Σ q · weight, C h
  global<float> dB, dC;                  // (tasks, tokens, states), absent where constant
  global<float> dA, fixed_dB, fixed_dC;  // (sequences, channels, states), absent where not wanted
};

template <class T>
struct alignas(16) ScanGradientShared {
  T h[kScanTokens<T> + 1][kScanChannels][kScanStates];  // before each token, and behind the last; then g h
  T input[kScanTokens<T>][kScanChannels][kScanStates];  // λ dt u
};

template <class System>
__global__ void __launch_bounds__(kScanThreads, 3) scan_gradient(ScanGradientArgs<System> a) {
  using T = typename System::Number;
  using N = Field<T>;
  constexpr int kTokens = kScanTokens<T>;
  auto& s = shared<ScanGradientShared<T>>();
  const int task = int(blockIdx.x), sequence = int(blockIdx.y), block = int(blockIdx.z);
  const int begin = a.sequences.begin(sequence), end = a.sequences.end(sequence);
  const int chunks = int(ceil_div(end - begin, kTokens)), first_piece = a.pieces.first(sequence);
  const int width = a.channels / a.groups, group = task / a.parts, part = task % a.parts;
  const int rounds = int(ceil_div(width, kScanChannels));
  const int n = block * kScanStates + lane();
  const int64_t own = int64_t(task) * int(gridDim.z) + block;
  for (int round = part * rounds / a.parts; round < (part + 1) * rounds / a.parts; ++round) {
    const bool adds = round > part * rounds / a.parts;
    const int place = round * kScanChannels + warp(), d = group * width + smaller(place, width - 1);
    const bool present = place < width, active = present && n < a.states;
    const int64_t cell = int64_t(d) * a.states + n;
    const T A = active ? a.system.A(d, n) : N::zero();
    auto start = [&](int chunk) {
      return ((own * a.pieces.count() + first_piece + chunk) * kScanChannels + warp()) * kScanStates + lane();
    };
    auto next = [&](int t, T h) {
      const float dt = a.system.dt(t, d);
      return N::decay(dt, A) * h + dt * a.system.u(t, d) * a.system.B(t, d, n);
    };
    T h = active && a.initial ? N::load(a.initial[sequence], cell) : N::zero();
    for (int c = 0; c < chunks; ++c) {
      N::store(a.starts, start(c), h);
      for (int t = begin + c * kTokens; active && c + 1 < chunks && t < begin + (c + 1) * kTokens; ++t) h = next(t, h);
    }
    T carry = active && a.dlast ? N::load(a.dlast[sequence], cell) : N::zero();
    T dA = N::zero(), fixed_dB = N::zero(), fixed_dC = N::zero();
    for (int c = chunks - 1; c >= 0; --c) {
      const int first = begin + c * kTokens, count = smaller(kTokens, end - first);
      s.h[0][warp()][lane()] = N::load(a.starts, start(c));
      for (int i = 0; i < count; ++i)
        s.h[i + 1][warp()][lane()] = active ? next(first + i, s.h[i][warp()][lane()]) : N::zero();
      for (int i = count - 1; i >= 0; --i) {
        const int t = first + i;
        const float dt = a.system.dt(t, d), u = a.system.u(t, d), g = a.system.g(t, d);
        float fed = 0, kept = 0, y = 0;
        T input = N::zero(), output = N::zero();
        if (active) {
          const T B = a.system.B(t, d, n), C = a.system.C(t, d, n);
          const T before = s.h[i][warp()][lane()], state = s.h[i + 1][warp()][lane()];
          const T lambda = N::kFactor * g * N::conj(C) + carry;
          carry = N::conj(N::decay(dt, A)) * lambda;
          const T q = carry * N::conj(before);
          dA = dA + dt * q;
          input = dt * u * lambda, output = N::kFactor * g * N::conj(state);
          fixed_dB = fixed_dB + input, fixed_dC = fixed_dC + output;
          fed = N::real(lambda * N::conj(B));
          kept = N::real(q * N::conj(a.system.weight(A)));
          y = N::kFactor * N::real(C * state);
        }
        s.input[i][warp()][lane()] = input, s.h[i + 1][warp()][lane()] = output;
        fed = warp_sum(fed), kept = warp_sum(kept), y = warp_sum(y);
        if (lane() == 0 && present) {
          const int64_t at = (int64_t(block) * a.sequences.tokens + t) * a.channels + d;
          a.fed[at] = fed, a.kept[at] = kept, a.y[at] = y;
        }
      }
      barrier();
      for (int i = int(threadIdx.x); i < count * kScanStates; i += kScanThreads) {
        const int t = i / kScanStates, l = i % kScanStates, state = block * kScanStates + l;
        if (state >= a.states) continue;
        T dB = N::zero(), dC = N::zero();
        for (int w = 0; w < kScanChannels; ++w) dB = dB + s.input[t][w][l], dC = dC + s.h[t + 1][w][l];
        const int64_t at = (int64_t(task) * a.sequences.tokens + first + t) * a.states + state;
        if (a.dB) N::store(a.dB, at, adds ? N::load(a.dB, at) + dB : dB);
        if (a.dC) N::store(a.dC, at, adds ? N::load(a.dC, at) + dC : dC);
      }
      barrier();
    }
    if (!active) continue;
    if (a.dinitial) N::store(a.dinitial[sequence], cell, carry);
    const int64_t at = int64_t(sequence) * a.channels * a.states + cell;
    if (a.dA) N::store(a.dA, at, dA);
    if (a.fixed_dB) N::store(a.fixed_dB, at, fixed_dB);
    if (a.fixed_dC) N::store(a.fixed_dC, at, fixed_dC);
  }
}

// dB or dC (tokens, groups, states) from the tasks' sums.
struct JoinTasks {
  global<const float> from;
  Rows<float> to;
  int64_t tokens, width;  // floats of a group's states
  int tasks, groups;
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t n = (first + i) % width, g = (first + i) / width;
      float total = 0;
      for (int64_t task = g * tasks / groups; task < (g + 1) * tasks / groups; ++task)
        total += from[(task * tokens + t) * width + n];
      to[t][first + i] = total;
    }
  }
};

struct SequenceSum {
  global<const float> from;  // (sequences, columns)
  int64_t columns;
  __device__ float operator()(int64_t s, int64_t c) const { return from[s * columns + c]; }
};

// The whole of it. finish(fed, kept, y, state blocks) is called before the memory of these goes.
struct ScanGradients {
  Tensor initial, dlast, dinitial, dA, dB, dC;  // dB and dC of either kind
  bool fixed_B = false, fixed_C = false;
  int B_groups = 1, C_groups = 1;
};
template <class System, class Finish>
void run_scan_gradient(const System& system, const Sequences& sequences, int64_t channels, int64_t states,
                       const ScanGradients& to, Finish&& finish) {
  using T = typename System::Number;
  constexpr int kWords = Field<T>::kWords;
  int64_t groups = to.B_groups;
  while (groups % to.C_groups) groups += to.B_groups;
  const int64_t parts = smaller<int64_t>(larger<int64_t>(kMostParts / groups, 1),
                                         larger<int64_t>(ceil_div(channels / groups, kScanChannels), 1));
  const int64_t tasks = groups * parts, blocks = larger<int64_t>(ceil_div(states, kScanStates), 1);
  const int64_t tokens = sequences.tokens, cells = sequences.count * channels * states * kWords;
  const Pieces pieces(sequences, kScanTokens<T>);
  auto size = [](bool needed, int64_t n) { return needed && n > 0 ? n : 1; };
  const bool B_varies = to.dB && !to.fixed_B, C_varies = to.dC && !to.fixed_C;
  const Scratch<float> starts(tasks * blocks * pieces.count() * kScanThreads * kWords);
  const Scratch<float> token_sums(size(true, 3 * blocks * tokens * channels));
  const Scratch<float> dB(size(B_varies, tasks * tokens * states * kWords));
  const Scratch<float> dC(size(C_varies, tasks * tokens * states * kWords));
  const Scratch<float> dA(size(bool(to.dA), cells));
  const Scratch<float> fixed_dB(size(to.fixed_B, cells)), fixed_dC(size(to.fixed_C, cells));
  const int64_t each = blocks * tokens * channels;
  ScanGradientArgs<System> a{system,
                             sequences,
                             int(channels),
                             int(states),
                             int(groups),
                             int(parts),
                             to.initial,
                             to.dlast,
                             to.dinitial,
                             pieces,
                             starts.data(),
                             token_sums.data(),
                             token_sums.data() + each,
                             token_sums.data() + 2 * each,
                             nullptr,
                             nullptr,
                             nullptr,
                             nullptr,
                             nullptr};
  if (B_varies) a.dB = dB.data();
  if (C_varies) a.dC = dC.data();
  if (to.dA) a.dA = dA.data();
  if (to.fixed_B) a.fixed_dB = fixed_dB.data();
  if (to.fixed_C) a.fixed_dC = fixed_dC.data();
  launch(scan_gradient<System>, {tasks, sequences.count, blocks}, kScanThreads, a);
  auto join = [&](const Tensor& result, const Scratch<float>& from, int result_groups) {
    const int64_t width = states * kWords;
    launch_pointwise(JoinTasks{from.data(), result, tokens, width, int(tasks), result_groups}, tokens,
                     result_groups * width);
  };
  auto sum = [&](const Tensor& result, const Scratch<float>& from) {
    const int64_t columns = channels * states * kWords;
    sum_columns(SequenceSum{from.data(), columns}, sequences.count, columns, Rows<float>(result), states * kWords);
  };
  if (B_varies) join(to.dB, dB, to.B_groups);
  if (C_varies) join(to.dC, dC, to.C_groups);
  if (to.dA) sum(to.dA, dA);
  if (to.dB && to.fixed_B) sum(to.dB, fixed_dB);
  if (to.dC && to.fixed_C) sum(to.dC, fixed_dC);
  finish(a.fed, a.kept, a.y, int(blocks));
}

}  // namespace statespace::cuda
