#pragma once
// The real selective scan's gradient over parts of the channels: pieces of tokens, each forward through its states and
// back through their adjoints.
#include <algorithm>
#include <cstring>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/activation_gradients.h"
#include "kernels/rate.h"
#include "kernels/rows.h"
#include "kernels/selective_scan_gradient_memory.h"
#include "kernels/selective_scan_real.h"
#include "kernels/sequences.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA::selective_scan_gradient {

using selective_scan::kLog2e;
using selective_scan::vectors;

// Parts that lie side by side: their rows, far apart, are read and written in long runs.
class ScanGradient {
 public:
  static int64_t floats(const Layout& l) {
    return Shared::floats(l) + l.floats() + l.width / kLanes * l.vector_floats();
  }
  ScanGradient(const SelectiveScanBackward& op, const Part* begin, const Part* end, const Layout& layout, float* memory)
      : op_(op),
        begin_(begin),
        end_(end),
        layout_(layout),
        piece_(layout.piece),
        states_(layout.states),
        d_state_(op.A[1]),
        b_(memory, layout),
        own_(memory + Shared::floats(layout), layout),
        vectors_(memory + Shared::floats(layout) + layout.floats()) {}

  void run(const Sequences& sequences, const Context& cx) {
    each_vector([&](const Channels& c) {
      gather(c, op_.A, c.A, kLog2e);
      for (int64_t n = 0; n < states_; ++n) store(c.A + n * kLanes, finite_rate(load(c.A + n * kLanes)));
      if (op_.constant(op_.B)) gather(c, op_.B, c.constant_B, 1);
      if (op_.constant(op_.C)) gather(c, op_.C, c.constant_C, 1);
      for (float* sums : {c.dA, c.dB, c.dC}) std::memset(sums, 0, states_ * kLanes * sizeof(float));
      store(own_.dD + c.at, zero()), store(own_.dbias + c.at, zero());
    });
    for (int64_t s = 0; s < sequences.count; ++s) sequence(s, sequences.begin(s), sequences.end(s), cx);
    each_vector([&](const Channels& c) {
      scatter(c, c.dA, op_.dA);
      if (op_.constant(op_.B)) scatter(c, c.dB, op_.dB);
      if (op_.constant(op_.C)) scatter(c, c.dC, op_.dC);
      if (op_.dD) store(op_.dD.f32() + c.first, load(own_.dD + c.at), c.count);
      if (op_.ddelta_bias) store(op_.ddelta_bias.f32() + c.first, load(own_.dbias + c.at), c.count);
    });
  }

 private:
  // fn(part, place): the parts, and where their rows begin.
  template <class Fn>
  void each_part(Fn&& fn) const {
    int64_t at = 0;
    for (const Part* part = begin_; part < end_; ++part) fn(*part, at), at += ceil_div(part->channels, kLanes) * kLanes;
  }
  template <class Fn>
  void each_vector_of(const Part& part, int64_t at, Fn&& fn) const {
    for (int64_t c = 0; c < part.channels; c += kLanes)
      fn(Channels(part.first + c, at + c, lanes_of(part.channels - c),
                  vectors_ + (at + c) / kLanes * layout_.vector_floats(), states_ * kLanes));
  }
  template <class Fn>
  void each_vector(Fn&& fn) const {
    each_part([&](const Part& part, int64_t at) { each_vector_of(part, at, fn); });
  }
  // fn(channel, place in the thread's rows, lanes…) over the parts' vectors of one token.
  template <class Fn>
  void each_of_row(int64_t i, Fn&& fn) const {
    each_part([&](const Part& part, int64_t at) {
      const int64_t place = i * layout_.width + at;
      vectors(part.channels, [&](int64_t c, auto... n) { fn(part.first + c, place + c, n...); });
    });
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
    const int64_t pieces = ceil_div(end - begin, piece_), size = states_ * kLanes;
    each_vector([&](const Channels& c) {
      read_state(c, op_.initial_state, s, c.starts);
      read_state(c, op_.dlast_state, s, c.carry);
    });
    for (int64_t i = 0; i + 1 < pieces; ++i) {
      cx.check_stop();
      const int64_t first = begin + i * piece_;
      prepare(first, piece_, false);
      each_part([&](const Part& part, int64_t at) {
        coefficients(part, first, piece_, false);
        each_vector_of(part, at,
                       [&](const Channels& c) { advance(c, c.starts + i * size, c.starts + (i + 1) * size); });
      });
    }
    for (int64_t i = pieces - 1; i >= 0; --i) {
      cx.check_stop();
      piece(begin + i * piece_, std::min(piece_, end - begin - i * piece_), i * size);
    }
    if (op_.dinitial_state)
      each_vector(
          [&](const Channels& c) { scatter(c, c.carry, op_.dinitial_state.row(s) + c.first * d_state_, d_state_); });
  }

  // A token's inputs into L2.
  void fetch(const Channels& c, int64_t t) const {
    for (const Tensor* from : {&op_.u, &op_.delta, &op_.dy, &op_.z})
      if (*from) prefetch(from->row(t) + c.first);
  }

  // dt, dt·u and, for `gradients`, g of tokens [first, first + count): token by token, and softplus in two passes, as
  // in the forward.
  void prepare(int64_t first, int64_t count, bool gradients) const {
    const float* bias = op_.delta_bias ? op_.delta_bias.f32() : nullptr;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i;
      const float *delta = op_.delta.row(t), *u = op_.u.row(t), *dy = op_.dy.row(t);
      const float* z = op_.z ? op_.z.row(t) : nullptr;
      if (i + kAhead < count) each_vector([&](const Channels& c) { fetch(c, t + kAhead); });
      auto raw = [&](int64_t c, auto... n) {
        return bias ? load(delta + c, n...) + load(bias + c, n...) : load(delta + c, n...);
      };
      if (op_.delta_softplus)
        each_of_row(i,
                    [&](int64_t c, int64_t at, auto... n) { store(own_.dt + at, exp(min(set(20.f), raw(c, n...)))); });
      each_of_row(i, [&](int64_t c, int64_t at, auto... n) {
        F dt = raw(c, n...);
        if (op_.delta_softplus) dt = softplus_of(dt, load(own_.dt + at));
        store(own_.dt + at, dt);
        store(own_.input + at, dt * load(u + c, n...));
      });
      if (!gradients) continue;
      each_of_row(i, [&](int64_t c, int64_t at, auto... n) {
        const F g = load(dy + c, n...);
        store(own_.g + at, z ? g * silu(load(z + c, n...)) : g);
      });
    }
  }
  // B, and for `gradients` C, of a part's group.
  void coefficients(const Part& part, int64_t first, int64_t count, bool gradients) const {
    if (!op_.constant(op_.B)) rows(op_.B, part.B_group, first, count, b_.B);
    if (!op_.constant(op_.C) && gradients) rows(op_.C, part.C_group, first, count, b_.C);
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
      F h[kStates], A[kStates];
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) h[k] = load(from + (n0 + k) * kLanes), A[k] = load(c.A + (n0 + k) * kLanes);
      const float *dt = own_.dt + c.at, *input = own_.input + c.at, *fixed = c.constant_B + n0 * kLanes;
      const float* B = b_.B + n0;
      const int64_t width = layout_.width, states = states_;
      for (int64_t i = 0; i < piece_; ++i, dt += width, input += width, B += states) {
        const F step = load(dt), in = load(input);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k)
          h[k] = fma(exp2(step * A[k]), h[k], in * (kConstantB ? load(fixed + k * kLanes) : set(B[k])));
      }
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) store(to + (n0 + k) * kLanes, h[k]);
    }
  }

  void piece(int64_t first, int64_t count, int64_t start) {
    prepare(first, count, true);
    const bool constant_B = op_.constant(op_.B), constant_C = op_.constant(op_.C);
    for (float* sums : {own_.fed, own_.kept, own_.y}) std::memset(sums, 0, count * layout_.width * sizeof(float));
    auto vector = [&](const Part& part, const Channels& c) {
      for (int64_t n = 0; n < states_; n += kStates) {
        const float* from = c.starts + start + n * kLanes;
        if (constant_B && constant_C) some<true, true>(part, c, first, count, n, from);
        if (constant_B && !constant_C) some<true, false>(part, c, first, count, n, from);
        if (!constant_B && constant_C) some<false, true>(part, c, first, count, n, from);
        if (!constant_B && !constant_C) some<false, false>(part, c, first, count, n, from);
      }
    };
    each_part([&](const Part& part, int64_t at) {
      coefficients(part, first, count, true);
      if (!constant_B || !constant_C)
        for (int64_t n = 0; n < 2 * states_; n += kStates)
          std::memset(part.sums + n * op_.u[0] + first * kStates, 0, count * kStates * sizeof(float));
      each_vector_of(part, at, [&](const Channels& c) { vector(part, c); });
    });
    finish(first, count);
  }

  // kStates states from n0 on: forward through the piece, then their adjoints back. dC is taken on the way forward.
  // What the loops need of this object is held in locals: a vector's store might change a member, for all that gcc
  // knows.
  template <bool kConstantB, bool kConstantC>
  void some(const Part& part, const Channels& c, int64_t first, int64_t count, int64_t n0, const float* start) const {
    constexpr int kRow = kStates * kLanes;
    const int64_t width = layout_.width, states = states_;
    float *const dts = own_.dt + c.at, *const inputs = own_.input + c.at, *const gs = own_.g + c.at;
    float *const feds = own_.fed + c.at, *const kepts = own_.kept + c.at, *const ys = own_.y + c.at;
    float *const a_rows = b_.a, *const h_rows = b_.h;
    const float *const Bs = b_.B + n0, *const Cs = b_.C + n0;
    const float *const own_B = c.constant_B + n0 * kLanes, *const own_C = c.constant_C + n0 * kLanes;
    float* const dB = part.sums + n0 * op_.u[0] + first * kStates;
    float* const dC = dB + states * op_.u[0];
    auto B = [&](int64_t i, int k) { return kConstantB ? load(own_B + k * kLanes) : set(Bs[i * states + k]); };
    auto C = [&](int64_t i, int k) { return kConstantC ? load(own_C + k * kLanes) : set(Cs[i * states + k]); };
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
        const F dt = load(dts + i * width), input = load(inputs + i * width), g = load(gs + i * width);
        F y = load(ys + i * width);
#pragma GCC unroll 8
        for (int k = 0; k < kStates; ++k) {
          const F a = exp2(dt * A[k]);
          h[k] = fma(a, h[k], input * B(i, k));
          store(a_rows + i * kRow + k * kLanes, a);
          store(h_rows + (i + 1) * kRow + k * kLanes, h[k]);
          y = fma(C(i, k), h[k], y);
          if constexpr (kConstantC)
            own_dC[k] = fma(g, h[k], own_dC[k]);
          else
            products[k] = g * h[k];
        }
        store(ys + i * width, y);
      };
      int64_t i = 0;
      for (; i + kTogether <= count; i += kTogether) {
        F products[kLanes];
#pragma GCC unroll 2
        for (int j = 0; j < kTogether; ++j) token(i + j, products + j * kStates);
        if constexpr (!kConstantC) store(dC + i * kStates, load(dC + i * kStates) + sums(products));
      }
      for (; i < count; ++i) {
        F products[kStates];
        token(i, products);
        if constexpr (!kConstantC) add_sums(dC + i * kStates, products);
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
      const F dt = load(dts + i * width), input = load(inputs + i * width), g = load(gs + i * width);
      F fed = load(feds + i * width), kept = load(kepts + i * width);
#pragma GCC unroll 8
      for (int k = 0; k < kStates; ++k) {
        const F lambda = fma(C(i, k), g, carry[k]);
        carry[k] = load(a_rows + i * kRow + k * kLanes) * lambda;
        const F q = carry[k] * load(h_rows + i * kRow + k * kLanes);
        fed = fma(lambda, B(i, k), fed);
        kept = fma(load(own_A + k * kLanes), q, kept);
        dA[k] = fma(dt, q, dA[k]);
        if constexpr (kConstantB)
          own_dB[k] = fma(lambda, input, own_dB[k]);
        else
          products[k] = lambda * input;
      }
      store(feds + i * width, fed);
      store(kepts + i * width, kept);
    };
    if (n0 == 0 && first >= piece_)  // the piece to come
      for (int64_t i = 0; i < piece_; ++i) fetch(c, first - piece_ + i);
    int64_t i = count;
    for (; i % kTogether; --i) {
      F products[kStates];
      token(i - 1, products);
      if constexpr (!kConstantB) add_sums(dB + (i - 1) * kStates, products);
    }
    for (i -= kTogether; i >= 0; i -= kTogether) {
      F products[kLanes];
#pragma GCC unroll 2
      for (int j = kTogether - 1; j >= 0; --j) token(i + j, products + j * kStates);
      if constexpr (!kConstantB) store(dB + i * kStates, load(dB + i * kStates) + sums(products));
    }
#pragma GCC unroll 8
    for (int k = 0; k < kStates; ++k) {
      store(c.carry + (n0 + k) * kLanes, carry[k]), store(c.dA + (n0 + k) * kLanes, dA[k]);
      store(c.dB + (n0 + k) * kLanes, own_dB[k]);
    }
  }

  static void add_sums(float* to, const F (&products)[kStates]) {
    for (int k = 0; k < kStates; ++k) to[k] += sum(products[k]);
  }

  void finish(int64_t first, int64_t count) const {
    const float *bias = op_.delta_bias ? op_.delta_bias.f32() : nullptr, *D = op_.D ? op_.D.f32() : nullptr;
    auto row = [](const Tensor& from, int64_t t) { return from ? from.row(t) : nullptr; };
    for (int64_t i = 0; i < count; ++i) {
      const int64_t t = first + i, begin = i * layout_.width;
      const float *u = op_.u.row(t), *delta = op_.delta.row(t), *dy = op_.dy.row(t), *z = row(op_.z, t);
      float *du = row(op_.du, t), *ddelta = row(op_.ddelta, t), *dz = row(op_.dz, t);
      each_of_row(i, [&](int64_t c, int64_t at, auto... n) {
        const F skip = D ? load(D + c, n...) : zero(), in = load(u + c, n...), g = load(own_.g + at);
        const F fed = load(own_.fed + at);
        if (du) store(du + c, fma(skip, g, load(own_.dt + at) * fed), n...);
        F ddt = fma(in, fed, load(own_.kept + at) * set(1 / kLog2e));
        if (op_.delta_softplus) {
          const F raw = load(delta + c, n...);
          ddt = ddt * softplus_gradient(bias ? raw + load(bias + c, n...) : raw);
        }
        if (ddelta) store(ddelta + c, ddt, n...);
        store(own_.dbias + at - begin, load(own_.dbias + at - begin) + ddt);
        store(own_.dD + at - begin, fma(g, in, load(own_.dD + at - begin)));
      });
      if (!dz) continue;
      each_of_row(i, [&](int64_t c, int64_t at, auto... n) {
        const F skip = D ? load(D + c, n...) : zero();
        const F y = fma(skip, load(u + c, n...), load(own_.y + at));
        store(dz + c, load(dy + c, n...) * y * silu_gradient(load(z + c, n...)), n...);
      });
    }
  }

  const SelectiveScanBackward& op_;
  const Part *begin_, *end_;
  const Layout layout_;
  const int64_t piece_, states_, d_state_;
  const Shared b_;
  const Rows own_;
  float* vectors_;
};

}  // namespace statespace::STATESPACE_ISA::selective_scan_gradient
