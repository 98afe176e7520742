#include <cfloat>
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
constexpr int64_t kPiece = 128;
// States of a vector of channels that pass over a piece together: what they give dB and dC is summed across lanes at
// once.
constexpr int kStates = kLanes > 1 ? kLanes / 2 : 1;
// Parts of the channels of a group, each with sums of its own for dB and dC. A constant, so that they are the same on
// any number of threads; few, because a row of a part should fill cache lines and pages (16 parts of 1536 channels took
// a third longer).
constexpr int64_t kMostParts = 8;
// How far ahead rows are fetched.
constexpr int64_t kAhead = 8;
constexpr float kLog2e = 1.44269504f;

// One vector of channels [first, first + count) and its memory: rows of kLanes over the piece's tokens, (d_state,
// kLanes) of states and coefficients, and sums.
struct Channels {
  int64_t first;
  int count;
  float *dt, *input, *g, *fed, *kept, *y, *A, *carry, *constant_B, *constant_C, *dA, *dB, *dC, *dD, *dbias, *starts;
  static int64_t floats(int64_t states, int64_t pieces) { return kLanes * (6 * kPiece + (7 + pieces) * states + 2); }
  Channels(int64_t first, int count, float* p, int64_t states) : first(first), count(count) {
    auto next = [&](int64_t n) {
      float* here = p;
      p += n * kLanes;
      return here;
    };
    for (float** each : {&dt, &input, &g, &fed, &kept, &y}) *each = next(kPiece);
    for (float** each : {&A, &carry, &constant_B, &constant_C, &dA, &dB, &dC}) *each = next(states);
    dD = next(1), dbias = next(1), starts = p;
  }
};

// What the vectors of a task share: decays and states of some states over a piece; B and C of the piece (kPiece,
// states) filled up with zeros.
struct Shared {
  float *a, *h, *B, *C;
  static int64_t floats(int64_t states) { return kLanes * (2 * kPiece + 1) * kStates + 2 * kPiece * states; }
  Shared(float* p, int64_t states)
      : a(p), h(a + kPiece * kStates * kLanes), B(h + (kPiece + 1) * kStates * kLanes), C(B + kPiece * states) {}
};

// A, at least as large as a float may be: a step of 0 keeps the state, and 0 times -∞ would be NaN.
inline F bounded(F A) { return max(set(-FLT_MAX), A); }

// Where a task's channels lie.
struct Task {
  int64_t first, channels, B_group, C_group;
};

class ScanGradient {
 public:
  static int64_t floats(int64_t vectors, int64_t states, int64_t pieces) {
    return Shared::floats(states) + vectors * Channels::floats(states, pieces);
  }
  ScanGradient(const SelectiveScanBackward& op, const Task& task, int64_t states, int64_t pieces, float* memory,
               float* sums)
      : op_(op),
        task_(task),
        d_state_(op.A[1]),
        states_(states),
        each_(Channels::floats(states, pieces)),
        b_(memory, states),
        own_(memory + Shared::floats(states)),
        sums_(sums) {}

  void run(const Sequences& sequences, const Context& cx) {
    each_vector([&](const Channels& c) {
      gather(c, op_.A, c.A, kLog2e);
      for (int64_t n = 0; n < states_; ++n) store(c.A + n * kLanes, bounded(load(c.A + n * kLanes)));
      if (op_.constant(op_.B)) gather(c, op_.B, c.constant_B, 1);
      if (op_.constant(op_.C)) gather(c, op_.C, c.constant_C, 1);
      for (float* sums : {c.dA, c.dB, c.dC}) std::memset(sums, 0, states_ * kLanes * sizeof(float));
      store(c.dD, zero()), store(c.dbias, zero());
    });
    for (int64_t s = 0; s < sequences.count; ++s) sequence(s, sequences.begin(s), sequences.end(s), cx);
    each_vector([&](const Channels& c) {
      scatter(c, c.dA, op_.dA);
      if (op_.constant(op_.B)) scatter(c, c.dB, op_.dB);
      if (op_.constant(op_.C)) scatter(c, c.dC, op_.dC);
      if (op_.dD) store(op_.dD.f32() + c.first, load(c.dD), c.count);
      if (op_.ddelta_bias) store(op_.ddelta_bias.f32() + c.first, load(c.dbias), c.count);
    });
  }

 private:
  template <class Fn>
  void each_vector(Fn&& fn) const {
    for (int64_t v = 0; v * kLanes < task_.channels; ++v)
      fn(Channels(task_.first + v * kLanes, lanes_of(task_.channels - v * kLanes), own_ + v * each_, states_));
  }
  // Rows of the channels (channels, d_state) as (states, kLanes), and back.
  void gather(const Channels& c, const float* rows, int64_t stride, float* to, float scale) const {
    std::memset(to, 0, states_ * kLanes * sizeof(float));
    for (int i = 0; i < c.count; ++i)
      for (int64_t n = 0; n < d_state_; ++n) to[n * kLanes + i] = scale * rows[i * stride + n];
  }
  void gather(const Channels& c, const Tensor& t, float* to, float scale) const {
    gather(c, t.row(c.first), t.row_stride, to, scale);
  }
  void scatter(const Channels& c, const float* from, float* rows, int64_t stride) const {
    for (int i = 0; i < c.count; ++i)
      for (int64_t n = 0; n < d_state_; ++n) rows[i * stride + n] = from[n * kLanes + i];
  }
  void scatter(const Channels& c, const float* from, const Tensor& t) const {
    if (t) scatter(c, from, t.row(c.first), t.row_stride);
  }
  void read_state(const Channels& c, const Tensor& t, int64_t s, float* to) const {
    if (t)
      gather(c, t.row(s) + c.first * d_state_, d_state_, to, 1);
    else
      std::memset(to, 0, states_ * kLanes * sizeof(float));
  }

  void sequence(int64_t s, int64_t begin, int64_t end, const Context& cx) {
    const int64_t pieces = ceil_div(end - begin, kPiece), size = states_ * kLanes;
    each_vector([&](const Channels& c) {
      read_state(c, op_.initial_state, s, c.starts);
      read_state(c, op_.dlast_state, s, c.carry);
    });
    for (int64_t i = 0; i + 1 < pieces; ++i) {
      cx.check_stop();
      prepare(begin + i * kPiece, kPiece, false);
      each_vector([&](const Channels& c) { advance(c, c.starts + i * size, c.starts + (i + 1) * size); });
    }
    for (int64_t i = pieces - 1; i >= 0; --i) {
      cx.check_stop();
      piece(begin + i * kPiece, std::min(kPiece, end - begin - i * kPiece), i * size);
    }
    if (op_.dinitial_state)
      each_vector(
          [&](const Channels& c) { scatter(c, c.carry, op_.dinitial_state.row(s) + c.first * d_state_, d_state_); });
  }

  F raw_step(const Channels& c, int64_t t) const {
    F p = load(op_.delta.row(t) + c.first, c.count);
    return op_.delta_bias ? p + load(op_.delta_bias.f32() + c.first, c.count) : p;
  }

  // A token's inputs into L2.
  void fetch(const Channels& c, int64_t t) const {
    for (const Tensor* from : {&op_.u, &op_.delta, &op_.dy, &op_.z})
      if (*from) prefetch(from->row(t) + c.first);
  }

  // dt, dt·u and, for `gradients`, g of tokens [first, first + count); B and C of their groups. Token by token: rows of
  // the tensors are far apart.
  void prepare(int64_t first, int64_t count, bool gradients) {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i;
      each_vector([&](const Channels& c) {
        if (i + kAhead < count) fetch(c, t + kAhead);
        const F p = raw_step(c, t), u = load(op_.u.row(t) + c.first, c.count);
        const F dt = op_.delta_softplus ? softplus(p) : p;
        store(c.dt + i * kLanes, dt);
        store(c.input + i * kLanes, dt * u);
        if (!gradients) return;
        const F dy = load(op_.dy.row(t) + c.first, c.count);
        store(c.g + i * kLanes, op_.z ? dy * silu(load(op_.z.row(t) + c.first, c.count)) : dy);
      });
    }
    if (!op_.constant(op_.B)) rows(op_.B, task_.B_group, first, count, b_.B);
    if (!op_.constant(op_.C) && gradients) rows(op_.C, task_.C_group, first, count, b_.C);
  }
  void rows(const Tensor& t, int64_t group, int64_t first, int64_t count, float* to) const {
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(to + i * states_, t.row(first + i) + group * d_state_, d_state_ * sizeof(float));
      for (int64_t n = d_state_; n < states_; ++n) to[i * states_ + n] = 0;
    }
  }

  // The state at the end of a whole piece.
  void advance(const Channels& c, const float* from, float* to) const {
    op_.constant(op_.B) ? advance<true>(c, from, to) : advance<false>(c, from, to);
  }
  template <bool kConstantB>
  void advance(const Channels& c, const float* from, float* to) const {
    for (int64_t n0 = 0; n0 < states_; n0 += kStates) {
      F h[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) h[k] = load(from + (n0 + k) * kLanes);
      for (int64_t i = 0; i < kPiece; ++i) {
        const F dt = load(c.dt + i * kLanes), input = load(c.input + i * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k) {
          const F B = kConstantB ? load(c.constant_B + (n0 + k) * kLanes) : set(b_.B[i * states_ + n0 + k]);
          h[k] = fma(exp2(dt * load(c.A + (n0 + k) * kLanes)), h[k], input * B);
        }
      }
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) store(to + (n0 + k) * kLanes, h[k]);
    }
  }

  void piece(int64_t first, int64_t count, int64_t start) {
    prepare(first, count, true);
    const bool constant_B = op_.constant(op_.B), constant_C = op_.constant(op_.C);
    if (!constant_B || !constant_C) std::memset(sums_ + first * states_ * 2, 0, count * states_ * 2 * sizeof(float));
    each_vector([&](const Channels& c) {
      for (float* sums : {c.fed, c.kept, c.y}) std::memset(sums, 0, count * kLanes * sizeof(float));
      for (int64_t n = 0; n < states_; n += kStates) {
        const float* from = c.starts + start + n * kLanes;
        if (constant_B && constant_C) some<true, true>(c, first, count, n, from);
        if (constant_B && !constant_C) some<true, false>(c, first, count, n, from);
        if (!constant_B && constant_C) some<false, true>(c, first, count, n, from);
        if (!constant_B && !constant_C) some<false, false>(c, first, count, n, from);
      }
    });
    finish(first, count);
  }

  // kStates states from n0 on: forward through the piece, then their adjoints back.
  template <bool kConstantB, bool kConstantC>
  void some(const Channels& c, int64_t first, int64_t count, int64_t n0, const float* start) {
    auto coefficient_B = [&](int64_t i, int k) {
      return kConstantB ? load(c.constant_B + (n0 + k) * kLanes) : set(b_.B[i * states_ + n0 + k]);
    };
    auto coefficient_C = [&](int64_t i, int k) {
      return kConstantC ? load(c.constant_C + (n0 + k) * kLanes) : set(b_.C[i * states_ + n0 + k]);
    };
    constexpr int kRow = kStates * kLanes;
    {
      F h[kStates], A[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        h[k] = load(start + k * kLanes), A[k] = load(c.A + (n0 + k) * kLanes);
        store(b_.h + k * kLanes, h[k]);
      }
      for (int64_t i = 0; i < count; ++i) {
        const F dt = load(c.dt + i * kLanes), input = load(c.input + i * kLanes);
        F y = load(c.y + i * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k) {
          const F a = exp2(dt * A[k]);
          h[k] = fma(a, h[k], input * coefficient_B(i, k));
          store(b_.a + i * kRow + k * kLanes, a);
          store(b_.h + (i + 1) * kRow + k * kLanes, h[k]);
          y = fma(coefficient_C(i, k), h[k], y);
        }
        store(c.y + i * kLanes, y);
      }
    }
    F carry[kStates], dA[kStates], constant_dB[kStates], constant_dC[kStates];
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      carry[k] = load(c.carry + (n0 + k) * kLanes), dA[k] = load(c.dA + (n0 + k) * kLanes);
      constant_dB[k] = load(c.dB + (n0 + k) * kLanes), constant_dC[k] = load(c.dC + (n0 + k) * kLanes);
    }
    for (int64_t i = count - 1; i >= 0; --i) {
      if (n0 == 0 && first >= kPiece) fetch(c, first - kPiece + i);  // the piece to come
      const F dt = load(c.dt + i * kLanes), input = load(c.input + i * kLanes), g = load(c.g + i * kLanes);
      F fed = load(c.fed + i * kLanes), kept = load(c.kept + i * kLanes);
      F products[2 * kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        const F lambda = fma(coefficient_C(i, k), g, carry[k]);
        carry[k] = load(b_.a + i * kRow + k * kLanes) * lambda;
        const F q = carry[k] * load(b_.h + i * kRow + k * kLanes);
        fed = fma(lambda, coefficient_B(i, k), fed);
        kept = fma(load(c.A + (n0 + k) * kLanes), q, kept);
        dA[k] = fma(dt, q, dA[k]);
        const F state = load(b_.h + (i + 1) * kRow + k * kLanes);
        if constexpr (kConstantB) constant_dB[k] = fma(lambda, input, constant_dB[k]);
        if constexpr (kConstantC) constant_dC[k] = fma(g, state, constant_dC[k]);
        products[k] = kConstantB ? zero() : lambda * input;
        products[kStates + k] = kConstantC ? zero() : g * state;
      }
      store(c.fed + i * kLanes, fed);
      store(c.kept + i * kLanes, kept);
      if constexpr (!kConstantB || !kConstantC) add_sums(first + i, n0, products);
    }
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      store(c.carry + (n0 + k) * kLanes, carry[k]), store(c.dA + (n0 + k) * kLanes, dA[k]);
      store(c.dB + (n0 + k) * kLanes, constant_dB[k]), store(c.dC + (n0 + k) * kLanes, constant_dC[k]);
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

  void finish(int64_t first, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i;
      each_vector([&](const Channels& c) {
        auto put = [&](const Tensor& to, F v) {
          if (to) store(to.row(t) + c.first, v, c.count);
        };
        const F skip = op_.D ? load(op_.D.f32() + c.first, c.count) : zero();
        const F u = load(op_.u.row(t) + c.first, c.count), g = load(c.g + i * kLanes);
        const F fed = load(c.fed + i * kLanes), dt = load(c.dt + i * kLanes);
        put(op_.du, fma(skip, g, dt * fed));
        F ddt = fma(u, fed, load(c.kept + i * kLanes) * set(1 / kLog2e));
        if (op_.delta_softplus) ddt = ddt * softplus_gradient(raw_step(c, t));
        put(op_.ddelta, ddt);
        store(c.dbias, load(c.dbias) + ddt);
        store(c.dD, fma(g, u, load(c.dD)));
        if (!op_.dz) return;
        const F z = load(op_.z.row(t) + c.first, c.count), dy = load(op_.dy.row(t) + c.first, c.count);
        put(op_.dz, dy * fma(skip, u, load(c.y + i * kLanes)) * silu_gradient(z));
      });
    }
  }

  const SelectiveScanBackward& op_;
  const Task task_;
  const int64_t d_state_, states_, each_;
  const Shared b_;
  float* own_;
  float* sums_;
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
  const int64_t pieces = ceil_div(longest, kPiece) + 1;
  cx.parallel_for(tasks, [&](int64_t task, int worker) {
    const int64_t group = task / parts, part = task % parts;
    const int64_t begin = part * vectors / parts * kLanes, end = std::min(width, (part + 1) * vectors / parts * kLanes);
    float* memory = cx.local<float>(worker, ScanGradient::floats(ceil_div(vectors, parts) + 1, states, pieces));
    const Task own{group * width + begin, end - begin, group * B_groups / groups, group * C_groups / groups};
    ScanGradient(op, own, states, pieces, memory, sums + task * size).run(sequences, cx);
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
