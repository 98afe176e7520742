#pragma once
// The real selective scan's gradient over parts of the channels: pieces of tokens, each forward through its states and
// back through their adjoints.
#include <algorithm>
#include <cstring>
#include <initializer_list>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/rate.h"
#include "kernels/rows.h"
#include "kernels/selective_scan_gradient_memory.h"
#include "kernels/selective_scan_real.h"
#include "kernels/sequences.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA::selective_scan_gradient {

using selective_scan::kLog2e;

// Rows of a vector of channels, far apart, that are brought to L2 token by token while something else is computed.
struct VectorAhead {
  VectorAhead() = default;
  VectorAhead(std::initializer_list<const Tensor*> tensors, int64_t channel, int64_t token, int64_t count)
      : count(count) {
    for (const Tensor* t : tensors)
      if (*t) rows[size] = t->row(token) + channel, strides[size++] = t->row_stride;
  }
  void fetch(int64_t i) const {
    for (int j = 0; i < count && j < size; ++j) prefetch(rows[j] + i * strides[j]);
  }
  const float* rows[4] = {};
  int64_t strides[4] = {}, count = 0;
  int size = 0;
};

// Parts that lie side by side.
class ScanGradient {
 public:
  static int64_t floats(const Layout& l) { return Shared::floats(l) + l.vectors * l.vector_floats(); }
  ScanGradient(const SelectiveScanBackward& op, const Part* begin, const Part* end, const Layout& layout, float* memory)
      : op_(op),
        begin_(begin),
        end_(end),
        layout_(layout),
        piece_(layout.piece),
        states_(layout.states),
        d_state_(op.A[1]),
        shared_(memory, layout),
        vectors_(memory + Shared::floats(layout)) {}

  void run(const Sequences& sequences, const Context& cx) {
    each_vector([&](const Channels& c) {
      gather(c, op_.A, c.A, kLog2e);
      for (int64_t n = 0; n < states_; ++n) store(c.A + n * kLanes, finite_rate(load(c.A + n * kLanes)));
      if (op_.constant(op_.B)) gather(c, op_.B, c.constant_B, 1);
      if (op_.constant(op_.C)) gather(c, op_.C, c.constant_C, 1);
      for (float* sums : {c.dA, c.dB, c.dC}) clear(sums);
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
  // fn(part, its vectors' memory) over the parts, and fn(vector) over a part's, or all.
  template <class Fn>
  void each_part(Fn&& fn) const {
    float* memory = vectors_;
    for (const Part* part = begin_; part < end_; ++part)
      fn(*part, memory), memory += ceil_div(part->channels, kLanes) * layout_.vector_floats();
  }
  template <class Fn>
  void each_vector_of(const Part& part, float* memory, Fn&& fn) const {
    for (int64_t c = 0; c < part.channels; c += kLanes, memory += layout_.vector_floats())
      fn(Channels(part.first + c, lanes_of(part.channels - c), memory, layout_));
  }
  template <class Fn>
  void each_vector(Fn&& fn) const {
    each_part([&](const Part& part, float* memory) { each_vector_of(part, memory, fn); });
  }
  void clear(float* states) const { std::memset(states, 0, layout_.state_floats() * sizeof(float)); }
  // Rows of the channels (channels, d_state) as (states, kLanes), and back.
  void gather(const Channels& c, const float* rows, int64_t stride, float* to, float scale) const {
    clear(to);
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
      clear(to);
  }

  void sequence(int64_t s, int64_t begin, int64_t end, const Context& cx) {
    const int64_t pieces = ceil_div(end - begin, piece_), size = layout_.state_floats();
    auto from = [&](int64_t i) { return begin + i * piece_; };
    auto count = [&](int64_t i) { return std::min(piece_, end - from(i)); };
    each_vector([&](const Channels& c) {
      read_state(c, op_.initial_state, s, c.starts);
      read_state(c, op_.dlast_state, s, c.carry);
    });
    for (int64_t i = 0; !op_.states && i + 1 < pieces; ++i) {
      cx.check_stop();
      each_part([&](const Part& part, float* memory) {
        coefficients(part, from(i), count(i), false);
        each_vector_of(part, memory, [&](const Channels& c) {
          prepare(c, from(i), count(i), false);
          const VectorAhead in({&op_.u, &op_.delta}, c.first + c.count, from(i),
                               c.first + c.count < op_.u[1] ? count(i) : 0);
          advance(c, count(i), c.starts + i * size, c.starts + (i + 1) * size, in);
        });
      });
    }
    for (int64_t i = pieces - 1; i >= 0; --i) {
      cx.check_stop();
      const bool kept = op_.states && i > 0;
      if (kept) each_vector([&](const Channels& c) { read_kept(c, from(i), c.starts + size); });
      piece(from(i), count(i), begin, kept ? size : op_.states ? 0 : i * size);
    }
    if (op_.dinitial_state)
      each_vector(
          [&](const Channels& c) { scatter(c, c.carry, op_.dinitial_state.row(s) + c.first * d_state_, d_state_); });
  }
  // The state that the forward kept before token t.
  void read_kept(const Channels& c, int64_t t, float* to) const {
    for (int64_t n = 0; n < d_state_; ++n)
      store(to + n * kLanes, load(op_.states.row((t / piece_ - 1) * d_state_ + n) + c.first, c.count));
    for (int64_t n = d_state_; n < states_; ++n) store(to + n * kLanes, zero());
  }

  float* row(Row which) const { return shared_.rows + which * layout_.row_floats(); }

  // dt, dt·u and, for `gradients`, g and the derivatives of tokens [first, first + count).
  void prepare(const Channels& c, int64_t first, int64_t count, bool gradients) const {
    c.count == kLanes ? prepare_lanes(c, first, count, gradients) : prepare_lanes(c, first, count, gradients, c.count);
  }
  // In several passes: a chain of exp and log fills the core's schedulers. softplus' = e^x / (1 + e^x).
  template <class... Lanes>
  void prepare_lanes(const Channels& c, int64_t first, int64_t count, bool gradients, Lanes... n) const {
    float *const dt = row(kDt), *const input = row(kInput), *const g = row(kG), *const slope = row(kSlope);
    float* const gate = row(kGate);
    const F bias = op_.delta_bias ? load(op_.delta_bias.f32() + c.first, n...) : zero();
    const int64_t end = count * kLanes;
    const float* from = op_.delta.row(first) + c.first;
    int64_t stride = op_.delta.row_stride;
    for (int64_t i = 0; i < end; i += kLanes, from += stride) store(dt + i, load(from, n...) + bias);
    if (op_.delta_softplus) {
      for (int64_t i = 0; i < end; i += kLanes) store(slope + i, exp(min(set(20.f), load(dt + i))));
      for (int64_t i = 0; i < end; i += kLanes) {
        const F power = load(slope + i);
        store(dt + i, softplus_of(load(dt + i), power));
        store(slope + i, power * reciprocal(set(1.f) + power));
      }
    }
    from = op_.u.row(first) + c.first, stride = op_.u.row_stride;
    for (int64_t i = 0; i < end; i += kLanes, from += stride) store(input + i, load(dt + i) * load(from, n...));
    if (!gradients) return;
    from = op_.dy.row(first) + c.first, stride = op_.dy.row_stride;
    if (!op_.z) {
      for (int64_t i = 0; i < end; i += kLanes, from += stride) store(g + i, load(from, n...));
      return;
    }
    const float* z = op_.z.row(first) + c.first;
    for (int64_t i = 0; i < end; i += kLanes, from += stride, z += op_.z.row_stride) {
      const F x = load(z, n...), dy = load(from, n...), s = sigmoid(x);
      store(g + i, dy * x * s);
      store(gate + i, dy * s * fma(x, set(1.f) - s, set(1.f)));
    }
  }
  // B, and for `gradients` C, of a part's group.
  void coefficients(const Part& part, int64_t first, int64_t count, bool gradients) const {
    if (!op_.constant(op_.B)) rows(op_.B, part.B_group, first, count, shared_.B);
    if (!op_.constant(op_.C) && gradients) rows(op_.C, part.C_group, first, count, shared_.C);
  }
  void rows(const Tensor& t, int64_t group, int64_t first, int64_t count, float* to) const {
    for (int64_t i = 0; i < count; ++i) {
      std::memcpy(to + i * states_, t.row(first + i) + group * d_state_, d_state_ * sizeof(float));
      for (int64_t n = d_state_; n < states_; ++n) to[i * states_ + n] = 0;
    }
  }

  // The state at the end of a piece.
  void advance(const Channels& c, int64_t count, const float* from, float* to, const VectorAhead& in) const {
    op_.constant(op_.B) ? advance<true>(c, count, from, to, in) : advance<false>(c, count, from, to, in);
  }
  template <bool kConstantB>
  void advance(const Channels& c, int64_t count, const float* from, float* to, const VectorAhead& ahead) const {
    for (int64_t n0 = 0; n0 < states_; n0 += kStates) {
      F h[kStates], A[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) h[k] = load(from + (n0 + k) * kLanes), A[k] = load(c.A + (n0 + k) * kLanes);
      const float *dt = row(kDt), *input = row(kInput);
      const float *B = shared_.B + n0, *fixed = c.constant_B + n0 * kLanes;
      const int64_t states = states_;
      for (int64_t i = 0; i < count; ++i, dt += kLanes, input += kLanes, B += states) {
        if (n0 == 0) ahead.fetch(i);
        const F step = load(dt), in = load(input);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k)
          h[k] = fma(step_decay(step * A[k]), h[k], in * (kConstantB ? load(fixed + k * kLanes) : set(B[k])));
      }
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) store(to + (n0 + k) * kLanes, h[k]);
    }
  }

  // Tokens [first, first + count) of a sequence that begins at `begin`, from the states `start` floats behind the
  // vectors' first.
  void piece(int64_t first, int64_t count, int64_t begin, int64_t start) {
    const bool constant_B = op_.constant(op_.B), constant_C = op_.constant(op_.C);
    const int64_t next = std::max(begin, first - piece_), end = end_[-1].first + end_[-1].channels;
    const VectorAhead none;
    each_part([&](const Part& part, float* memory) {
      coefficients(part, first, count, true);
      each_vector_of(part, memory, [&](const Channels& c) {
        const bool add = c.first > part.first;
        prepare(c, first, count, true);
        const bool last = c.first + c.count == end;
        const VectorAhead in({&op_.u, &op_.delta, &op_.dy, &op_.z}, last ? begin_->first : c.first + c.count,
                             last ? next : first, last ? first - next : count);
        const VectorAhead out({&op_.du, &op_.ddelta, &op_.dz}, c.first, first, count);
        for (int64_t n = 0; n < states_; n += kStates) {
          const VectorAhead *forth = n == 0 ? &in : &none, *back = n == 0 ? &out : &none;
          const float* from = c.starts + start + n * kLanes;
          float* sums = part.sums + n * op_.u[0] + first * kStates;
          if (constant_B && constant_C) some<true, true>(c, count, n, from, sums, add, *forth, *back);
          if (constant_B && !constant_C) some<true, false>(c, count, n, from, sums, add, *forth, *back);
          if (!constant_B && constant_C) some<false, true>(c, count, n, from, sums, add, *forth, *back);
          if (!constant_B && !constant_C) some<false, false>(c, count, n, from, sums, add, *forth, *back);
        }
        c.count == kLanes ? finish(c, first, count) : finish(c, first, count, c.count);
      });
    });
  }

  // kStates states from n0 on: forward through the piece, then their adjoints back. dC is taken on the way forward.
  // Sums over the channels are added to those of the part's vectors before. What the loops need of this object is held
  // in locals: a vector's store might change a member, for all that gcc knows.
  template <bool kConstantB, bool kConstantC>
  void some(const Channels& c, int64_t count, int64_t n0, const float* start, float* dB, bool add,
            const VectorAhead& forth, const VectorAhead& back) const {
    constexpr int kWide = kStates * kLanes;
    const int64_t states = states_;
    float *const dts = row(kDt), *const inputs = row(kInput), *const gs = row(kG), *const ys = row(kY);
    float *const feds = row(kFed), *const kepts = row(kKept);
    float *const a_rows = shared_.a, *const h_rows = shared_.h, *const dC = dB + states * op_.u[0];
    const float *const Bs = shared_.B + n0, *const Cs = shared_.C + n0;
    const float *const own_B = c.constant_B + n0 * kLanes, *const own_C = c.constant_C + n0 * kLanes;
    auto B = [&](int64_t i, int k) { return kConstantB ? load(own_B + k * kLanes) : set(Bs[i * states + k]); };
    auto C = [&](int64_t i, int k) { return kConstantC ? load(own_C + k * kLanes) : set(Cs[i * states + k]); };
    const bool first = n0 == 0;
    F A[kStates];
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) A[k] = load(c.A + (n0 + k) * kLanes);
    {
      F h[kStates], own_dC[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        h[k] = load(start + k * kLanes), own_dC[k] = load(c.dC + (n0 + k) * kLanes);
        store(h_rows + k * kLanes, h[k]);
      }
      auto token = [&](int64_t i, F * products) __attribute__((always_inline)) {
        forth.fetch(i);
        const F dt = load(dts + i * kLanes), input = load(inputs + i * kLanes), g = load(gs + i * kLanes);
        F y = first ? zero() : load(ys + i * kLanes);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k) {
          const F a = step_decay(dt * A[k]);
          h[k] = fma(a, h[k], input * B(i, k));
          store(a_rows + i * kWide + k * kLanes, a);
          store(h_rows + (i + 1) * kWide + k * kLanes, h[k]);
          y = fma(C(i, k), h[k], y);
          if constexpr (kConstantC)
            own_dC[k] = fma(g, h[k], own_dC[k]);
          else
            products[k] = g * h[k];
        }
        store(ys + i * kLanes, y);
      };
      int64_t i = 0;
      for (; i + kTogether <= count; i += kTogether) {
        F products[kLanes];
#pragma GCC unroll 4
        for (int j = 0; j < kTogether; ++j) token(i + j, products + j * kStates);
        if constexpr (!kConstantC) put_sums(dC + i * kStates, products, add);
      }
      for (; i < count; ++i) {
        F products[kStates];
        token(i, products);
        if constexpr (!kConstantC) put_sums(dC + i * kStates, products, add);
      }
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) store(c.dC + (n0 + k) * kLanes, own_dC[k]);
    }
    F carry[kStates], dA[kStates], own_dB[kStates];
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      carry[k] = load(c.carry + (n0 + k) * kLanes), dA[k] = load(c.dA + (n0 + k) * kLanes);
      own_dB[k] = load(c.dB + (n0 + k) * kLanes);
    }
    const float* const own_A = c.A + n0 * kLanes;
    auto token = [&](int64_t i, F * products) __attribute__((always_inline)) {
      back.fetch(i);
      const F dt = load(dts + i * kLanes), input = load(inputs + i * kLanes), g = load(gs + i * kLanes);
      F fed = first ? zero() : load(feds + i * kLanes), kept = first ? zero() : load(kepts + i * kLanes);
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        const F lambda = fma(C(i, k), g, carry[k]);
        carry[k] = load(a_rows + i * kWide + k * kLanes) * lambda;
        const F q = carry[k] * load(h_rows + i * kWide + k * kLanes);
        fed = fma(lambda, B(i, k), fed);
        kept = fma(load(own_A + k * kLanes), q, kept);
        dA[k] = fma(dt, q, dA[k]);
        if constexpr (kConstantB)
          own_dB[k] = fma(lambda, input, own_dB[k]);
        else
          products[k] = lambda * input;
      }
      store(feds + i * kLanes, fed);
      store(kepts + i * kLanes, kept);
    };
    int64_t i = count;
    for (; i % kTogether; --i) {
      F products[kStates];
      token(i - 1, products);
      if constexpr (!kConstantB) put_sums(dB + (i - 1) * kStates, products, add);
    }
    for (i -= kTogether; i >= 0; i -= kTogether) {
      F products[kLanes];
#pragma GCC unroll 4
      for (int j = kTogether - 1; j >= 0; --j) token(i + j, products + j * kStates);
      if constexpr (!kConstantB) put_sums(dB + i * kStates, products, add);
    }
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      store(c.carry + (n0 + k) * kLanes, carry[k]), store(c.dA + (n0 + k) * kLanes, dA[k]);
      store(c.dB + (n0 + k) * kLanes, own_dB[k]);
    }
  }

  // Sums across the lanes of kTogether tokens' products, or of one's.
  static void put_sums(float* to, const F (&products)[kLanes], bool add) {
    store(to, add ? load(to) + sums(products) : sums(products));
  }
  template <int kOne>
  static void put_sums(float* to, const F (&products)[kOne], bool add) {
    for (int k = 0; k < kOne; ++k) to[k] = add ? to[k] + sum(products[k]) : sum(products[k]);
  }

  template <class... Lanes>
  void finish(const Channels& c, int64_t first, int64_t count, Lanes... n) const {
    const float *const g = row(kG), *const fed = row(kFed), *const kept = row(kKept), *const y = row(kY);
    const float *const dt = row(kDt), *const slope = row(kSlope), *const gate = row(kGate);
    const F skip = op_.D ? load(op_.D.f32() + c.first, n...) : zero();
    F dD = load(c.dD), dbias = load(c.dbias);
    for (int64_t t = first, i = 0; t < first + count; ++t, i += kLanes) {
      const F in = load(op_.u.row(t) + c.first, n...);
      if (op_.du) store(op_.du.row(t) + c.first, fma(skip, load(g + i), load(dt + i) * load(fed + i)), n...);
      F ddt = fma(in, load(fed + i), load(kept + i) * set(1 / kLog2e));
      if (op_.delta_softplus) ddt = ddt * load(slope + i);
      if (op_.ddelta) store(op_.ddelta.row(t) + c.first, ddt, n...);
      if (op_.dz) store(op_.dz.row(t) + c.first, load(gate + i) * fma(skip, in, load(y + i)), n...);
      dbias = dbias + ddt;
      dD = fma(load(g + i), in, dD);
    }
    store(c.dD, dD), store(c.dbias, dbias);
  }

  const SelectiveScanBackward& op_;
  const Part *begin_, *end_;
  const Layout layout_;
  const int64_t piece_, states_, d_state_;
  const Shared shared_;
  float* vectors_;
};

}  // namespace statespace::STATESPACE_ISA::selective_scan_gradient
