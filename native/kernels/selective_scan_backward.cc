#include <cstring>

#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/rows.h"
#include "kernels/selective_scan_complex_gradient.h"
#include "kernels/sequences.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Tokens whose states exist at once; of a longer sequence the state at each piece's start is kept.
constexpr int64_t kPiece = 512;
// States of a vector of channels that pass over a piece together: what they give dB and dC is summed across lanes at
// once.
constexpr int kStates = kLanes > 1 ? kLanes / 2 : 1;
// Parts of the channels of a group, each with sums of its own for dB and dC. A constant, so that they are the same on
// any number of threads.
constexpr int64_t kMostParts = 16;
constexpr float kLog2e = 1.44269504f;

// One vector of channels [first, first + count).
struct Channels {
  int64_t first, B_group, C_group;
  int count;
};

// Memory of a worker: rows of kLanes over the piece's tokens, and (d_state, kLanes) of states and coefficients; B and C
// of the piece (kPiece, states) filled up with zeros.
struct Buffers {
  float *dt, *input, *g, *fed, *kept, *y, *a, *h, *A, *carry, *state, *B, *C, *constant_B, *constant_C, *dA, *dB, *dC,
      *starts;
  static int64_t floats(int64_t states, int64_t pieces) {
    return kLanes * (6 * kPiece + (2 * kPiece + 1) * kStates + (8 + pieces) * states) + 2 * kPiece * states;
  }
  Buffers(float* p, int64_t states) {
    auto next = [&](int64_t n) {
      float* here = p;
      p += n;
      return here;
    };
    for (float** each : {&dt, &input, &g, &fed, &kept, &y}) *each = next(kPiece * kLanes);
    a = next(kPiece * kStates * kLanes), h = next((kPiece + 1) * kStates * kLanes);
    for (float** each : {&A, &carry, &state, &constant_B, &constant_C, &dA, &dB, &dC}) *each = next(states * kLanes);
    B = next(kPiece * states), C = next(kPiece * states), starts = p;
  }
};

class ScanGradient {
 public:
  ScanGradient(const SelectiveScanBackward& op, int64_t states, const Buffers& b, float* sums)
      : op_(op), d_state_(op.A[1]), states_(states), b_(b), sums_(sums) {}

  void channels(const Channels& c, const Sequences& sequences) {
    c_ = c;
    gather(op_.A, b_.A, kLog2e);
    if (op_.constant(op_.B)) gather(op_.B, b_.constant_B, 1);
    if (op_.constant(op_.C)) gather(op_.C, b_.constant_C, 1);
    for (float* sums : {b_.dA, b_.dB, b_.dC}) std::memset(sums, 0, states_ * kLanes * sizeof(float));
    dD_ = dbias_ = zero();
    for (int64_t s = 0; s < sequences.count; ++s) sequence(s, sequences.begin(s), sequences.end(s));
    scatter(b_.dA, op_.dA);
    if (op_.constant(op_.B)) scatter(b_.dB, op_.dB);
    if (op_.constant(op_.C)) scatter(b_.dC, op_.dC);
    if (op_.dD) store(op_.dD.f32() + c.first, dD_, c.count);
    if (op_.ddelta_bias) store(op_.ddelta_bias.f32() + c.first, dbias_, c.count);
  }

 private:
  // Rows of the channels (channels, d_state) as (states, kLanes), and back.
  void gather(const float* rows, int64_t stride, float* to, float scale) const {
    std::memset(to, 0, states_ * kLanes * sizeof(float));
    for (int i = 0; i < c_.count; ++i)
      for (int64_t n = 0; n < d_state_; ++n) to[n * kLanes + i] = scale * rows[i * stride + n];
  }
  void gather(const Tensor& t, float* to, float scale) const { gather(t.row(c_.first), t.row_stride, to, scale); }
  void scatter(const float* from, float* rows, int64_t stride) const {
    for (int i = 0; i < c_.count; ++i)
      for (int64_t n = 0; n < d_state_; ++n) rows[i * stride + n] = from[n * kLanes + i];
  }
  void scatter(const float* from, const Tensor& t) const {
    if (t) scatter(from, t.row(c_.first), t.row_stride);
  }

  void sequence(int64_t s, int64_t begin, int64_t end) {
    const int64_t pieces = ceil_div(end - begin, kPiece), size = states_ * kLanes;
    float* starts = b_.starts;
    if (op_.initial_state)
      gather(op_.initial_state.row(s) + c_.first * d_state_, d_state_, starts, 1);
    else
      std::memset(starts, 0, size * sizeof(float));
    for (int64_t i = 0; i + 1 < pieces; ++i) {
      prepare(begin + i * kPiece, kPiece);
      advance(starts + i * size, starts + (i + 1) * size);
    }
    if (op_.dlast_state)
      gather(op_.dlast_state.row(s) + c_.first * d_state_, d_state_, b_.carry, 1);
    else
      std::memset(b_.carry, 0, size * sizeof(float));
    for (int64_t i = pieces - 1; i >= 0; --i)
      piece(begin + i * kPiece, std::min(kPiece, end - begin - i * kPiece), starts + i * size);
    if (op_.dinitial_state) scatter(b_.carry, op_.dinitial_state.row(s) + c_.first * d_state_, d_state_);
  }

  F raw_step(int64_t t) const {
    F p = load(op_.delta.row(t) + c_.first, c_.count);
    return op_.delta_bias ? p + load(op_.delta_bias.f32() + c_.first, c_.count) : p;
  }

  // dt, dt·u and g of tokens [first, first + count); B and C of their groups.
  void prepare(int64_t first, int64_t count) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i;
      const F p = raw_step(t), u = load(op_.u.row(t) + c_.first, c_.count);
      const F dt = op_.delta_softplus ? softplus(p) : p;
      store(b_.dt + i * kLanes, dt);
      store(b_.input + i * kLanes, dt * u);
      const F dy = load(op_.dy.row(t) + c_.first, c_.count);
      store(b_.g + i * kLanes, op_.z ? dy * silu(load(op_.z.row(t) + c_.first, c_.count)) : dy);
    }
    if (!op_.constant(op_.B)) rows(op_.B, c_.B_group, first, count, b_.B);
    if (!op_.constant(op_.C)) rows(op_.C, c_.C_group, first, count, b_.C);
  }
  void rows(const Tensor& t, int64_t group, int64_t first, int64_t count, float* to) const {
    for (int64_t i = 0; i < count; ++i)
      for (int64_t n = 0; n < states_; ++n)
        to[i * states_ + n] = n < d_state_ ? t.row(first + i)[group * d_state_ + n] : 0;
  }

  // State n of B for token i of the piece.
  F B(int64_t i, int64_t n) const {
    return op_.constant(op_.B) ? load(b_.constant_B + n * kLanes) : set(b_.B[i * states_ + n]);
  }
  F C(int64_t i, int64_t n) const {
    return op_.constant(op_.C) ? load(b_.constant_C + n * kLanes) : set(b_.C[i * states_ + n]);
  }

  // The state at the end of a whole piece.
  void advance(const float* from, float* to) const {
    for (int64_t n0 = 0; n0 < states_; n0 += kStates) {
      F h[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) h[k] = load(from + (n0 + k) * kLanes);
      for (int64_t i = 0; i < kPiece; ++i) {
        const F dt = load(b_.dt + i * kLanes), input = load(b_.input + i * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k)
          h[k] = fma(exp2(dt * load(b_.A + (n0 + k) * kLanes)), h[k], input * B(i, n0 + k));
      }
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) store(to + (n0 + k) * kLanes, h[k]);
    }
  }

  void piece(int64_t first, int64_t count, const float* start) {
    prepare(first, count);
    for (float* sums : {b_.fed, b_.kept, b_.y}) std::memset(sums, 0, count * kLanes * sizeof(float));
    const bool constant_B = op_.constant(op_.B), constant_C = op_.constant(op_.C);
    for (int64_t n = 0; n < states_; n += kStates) {
      const float* from = start + n * kLanes;
      if (constant_B && constant_C) some<true, true>(first, count, n, from);
      if (constant_B && !constant_C) some<true, false>(first, count, n, from);
      if (!constant_B && constant_C) some<false, true>(first, count, n, from);
      if (!constant_B && !constant_C) some<false, false>(first, count, n, from);
    }
    finish(first, count);
  }

  // kStates states from n0 on: forward through the piece, then their adjoints back.
  template <bool kConstantB, bool kConstantC>
  void some(int64_t first, int64_t count, int64_t n0, const float* start) {
    auto coefficient_B = [&](int64_t i, int k) {
      return kConstantB ? load(b_.constant_B + (n0 + k) * kLanes) : set(b_.B[i * states_ + n0 + k]);
    };
    auto coefficient_C = [&](int64_t i, int k) {
      return kConstantC ? load(b_.constant_C + (n0 + k) * kLanes) : set(b_.C[i * states_ + n0 + k]);
    };
    constexpr int kRow = kStates * kLanes;
    {
      F h[kStates], A[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        h[k] = load(start + k * kLanes), A[k] = load(b_.A + (n0 + k) * kLanes);
        store(b_.h + k * kLanes, h[k]);
      }
      for (int64_t i = 0; i < count; ++i) {
        const F dt = load(b_.dt + i * kLanes), input = load(b_.input + i * kLanes);
        F y = load(b_.y + i * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k) {
          const F a = exp2(dt * A[k]);
          h[k] = fma(a, h[k], input * coefficient_B(i, k));
          store(b_.a + i * kRow + k * kLanes, a);
          store(b_.h + (i + 1) * kRow + k * kLanes, h[k]);
          y = fma(coefficient_C(i, k), h[k], y);
        }
        store(b_.y + i * kLanes, y);
      }
    }
    F carry[kStates], dA[kStates], constant_dB[kStates], constant_dC[kStates];
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      carry[k] = load(b_.carry + (n0 + k) * kLanes), dA[k] = load(b_.dA + (n0 + k) * kLanes);
      constant_dB[k] = load(b_.dB + (n0 + k) * kLanes), constant_dC[k] = load(b_.dC + (n0 + k) * kLanes);
    }
    for (int64_t i = count - 1; i >= 0; --i) {
      const F dt = load(b_.dt + i * kLanes), input = load(b_.input + i * kLanes), g = load(b_.g + i * kLanes);
      F fed = load(b_.fed + i * kLanes), kept = load(b_.kept + i * kLanes);
      F products[2 * kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        const F lambda = fma(coefficient_C(i, k), g, carry[k]);
        carry[k] = load(b_.a + i * kRow + k * kLanes) * lambda;
        const F q = carry[k] * load(b_.h + i * kRow + k * kLanes);
        fed = fma(lambda, coefficient_B(i, k), fed);
        kept = fma(load(b_.A + (n0 + k) * kLanes), q, kept);
        dA[k] = fma(dt, q, dA[k]);
        const F state = load(b_.h + (i + 1) * kRow + k * kLanes);
        if constexpr (kConstantB) constant_dB[k] = fma(lambda, input, constant_dB[k]);
        if constexpr (kConstantC) constant_dC[k] = fma(g, state, constant_dC[k]);
        products[k] = kConstantB ? zero() : lambda * input;
        products[kStates + k] = kConstantC ? zero() : g * state;
      }
      store(b_.fed + i * kLanes, fed);
      store(b_.kept + i * kLanes, kept);
      if constexpr (!kConstantB || !kConstantC) add_sums(first + i, n0, products);
    }
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      store(b_.carry + (n0 + k) * kLanes, carry[k]), store(b_.dA + (n0 + k) * kLanes, dA[k]);
      store(b_.dB + (n0 + k) * kLanes, constant_dB[k]), store(b_.dC + (n0 + k) * kLanes, constant_dC[k]);
    }
  }

  // dB and dC of kStates states of a token: sums_ is (tokens, states / kStates, 2, kStates).
  template <int kCount>
  void add_sums(int64_t t, int64_t n0, F (&products)[kCount]) const {
    float* to = sums_ + (t * states_ + n0) * 2;
    if constexpr (kCount == kLanes)
      store(to, load(to) + sums(products));
    else
      for (int i = 0; i < kCount; ++i) to[i] += sum(products[i]);
  }

  void finish(int64_t first, int64_t count) {
    const F skip = op_.D ? load(op_.D.f32() + c_.first, c_.count) : zero();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i;
      auto put = [&](const Tensor& to, F v) {
        if (to) store(to.row(t) + c_.first, v, c_.count);
      };
      const F u = load(op_.u.row(t) + c_.first, c_.count), g = load(b_.g + i * kLanes);
      const F fed = load(b_.fed + i * kLanes), dt = load(b_.dt + i * kLanes);
      put(op_.du, fma(skip, g, dt * fed));
      F ddt = fma(u, fed, load(b_.kept + i * kLanes) * set(1 / kLog2e));
      if (op_.delta_softplus) ddt = ddt * softplus_gradient(raw_step(t));
      put(op_.ddelta, ddt);
      dbias_ = dbias_ + ddt;
      dD_ = fma(g, u, dD_);
      if (!op_.dz) continue;
      const F z = load(op_.z.row(t) + c_.first, c_.count), dy = load(op_.dy.row(t) + c_.first, c_.count);
      put(op_.dz, dy * fma(skip, u, load(b_.y + i * kLanes)) * silu_gradient(z));
    }
  }

  const SelectiveScanBackward& op_;
  const int64_t d_state_, states_;
  const Buffers& b_;
  float* sums_;
  Channels c_;
  F dD_, dbias_;
};

// Gradients of B or C per token from the parts' sums; `which` 0 or 1.
void write_sums(Context& cx, const Tensor& to, const float* sums, int64_t tokens, int64_t states, int64_t tasks,
                int which) {
  const int64_t groups = to[1], d_state = to[2];
  cx.parallel_for(ceil_div(tokens, 64), [&](int64_t block, int) {
    for (int64_t t = block * 64; t < std::min(tokens, block * 64 + 64); ++t)
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t n = 0; n < d_state; ++n) {
          float total = 0;
          for (int64_t i = g * tasks / groups; i < (g + 1) * tasks / groups; ++i)
            total += sums[(i * tokens + t) * states * 2 + (n / kStates * 2 + which) * kStates + n % kStates];
          to.row(t)[g * d_state + n] = total;
        }
  });
}

void scan_real(const SelectiveScanBackward& op, Context& cx) {
  const int64_t tokens = op.u[0], d_inner = op.u[1], states = ceil_div(op.A[1], kStates) * kStates;
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const int64_t B_groups = op.constant(op.B) ? 1 : op.B[1], C_groups = op.constant(op.C) ? 1 : op.C[1];
  // Tasks are parts of the finer of the two groupings; the coarser one's are sums over several.
  int64_t groups = B_groups;
  while (groups % C_groups) groups += B_groups;  // the least common multiple
  const int64_t width = d_inner / groups, vectors = ceil_div(width, kLanes);
  const int64_t parts = std::clamp<int64_t>(kMostParts / groups, 1, vectors), tasks = groups * parts;
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s)
    longest = std::max<int64_t>(longest, sequences.end(s) - sequences.begin(s));
  const bool shared = !op.constant(op.B) || !op.constant(op.C);
  const int64_t size = shared ? tokens * states * 2 : 0;
  float* sums = cx.kept<float>(tasks * size);
  cx.parallel_for(tasks, [&](int64_t task, int worker) {
    const Buffers buffers(cx.local<float>(worker, Buffers::floats(states, ceil_div(longest, kPiece) + 1)), states);
    float* own = sums + task * size;
    std::memset(own, 0, size * sizeof(float));
    ScanGradient scan(op, states, buffers, own);
    const int64_t group = task / parts, part = task % parts;
    for (int64_t v = part * vectors / parts; v < (part + 1) * vectors / parts; ++v) {
      const int64_t first = group * width + v * kLanes;
      scan.channels({first, group * B_groups / groups, group * C_groups / groups, lanes_of(width - v * kLanes)},
                    sequences);
    }
  });
  if (op.dB && !op.constant(op.B)) write_sums(cx, op.dB, sums, tokens, states, tasks, 0);
  if (op.dC && !op.constant(op.C)) write_sums(cx, op.dC, sums, tokens, states, tasks, 1);
}

}  // namespace

template <>
void run(const SelectiveScanBackward& op, Context& cx) {
  op.complex() ? scan_complex_gradient(op, cx) : scan_real(op, cx);
}

}  // namespace statespace::STATESPACE_ISA
