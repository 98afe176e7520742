#pragma once
// Mamba-3 token by token: short pieces, and mode "recurrent".
#include <algorithm>

#include "core/context.h"
#include "kernels/mamba3_head.h"
#include "kernels/streamed_rows.h"

namespace statespace::STATESPACE_ISA::mamba3 {

// The states of one head of one sequence. k has a row per rank.
struct HeadState {
  float *angle, *ssm, *k, *v;
  int64_t k_stride;
  HeadState(const Mamba3& op, const Sizes& z, int64_t slot, int64_t head)
      : angle(op.angle_state.row(slot) + head * z.angles),
        ssm(op.ssm_state.row(slot) + head * z.headdim * z.d_state),
        k(op.k_state.row(slot) + head * z.d_state),
        v(op.v_state.row(slot) + head * z.headdim),
        k_stride(z.nheads * z.d_state) {}
};

// y_r of one token before norm and gate, for the gradient.
inline void keep_outputs(const Mamba3& op, const Sizes& z, int64_t head, int64_t token, const float* out,
                         bool streamed) {
  for (int64_t r = 0; r < z.rank; ++r) {
    float* to = op.outputs.row(token) + (r * z.nheads + head) * z.headdim;
    if (!streamed)
      copy_row(out + r * z.p, to, z.headdim);
    else
      for (int64_t i = 0; i < z.headdim; i += kLanes) stream(to + i, load(out + r * z.p + i));
  }
}

// Token by token, one head of one sequence, its state in place.
inline void recurrent(const Mamba3& op, const Sizes& z, int64_t head, int64_t begin, int64_t end,
                      const HeadState& state, Arena arena, const Context& cx) {
  if (begin == end) return;
  const int64_t rows = z.rank * z.n, group = z.group(head) * z.d_state;
  HeadWeights weights(arena, z, 1);
  Steps steps(arena, 1);
  float *theta = arena.take(z.s), *sine = arena.take(z.s), *cosine = arena.take(z.s), *channels = arena.take(z.n);
  float* rates = arena.take(z.s);
  float *turned = arena.take(z.n), *k = arena.take(rows), *k_before = arena.take(rows), *c = arena.take(rows);
  float *v = arena.take(z.rank * z.p), *v_before = arena.take(z.rank * z.p), *out = arena.take(z.rank * z.p);
  weights.read(op, z, head, 0);
  read_rows(state.angle, 1, z.angles, theta, z.s);
  for (int64_t r = 0; r < z.rank; ++r) read_rows(state.k + r * state.k_stride, 1, z.d_state, k_before + r * z.n, z.n);
  inputs(op, z, head, state.v, v_before);
  for (int64_t t = begin; t < end; ++t) {
    cx.check_stop();
    steps.fill(op, head, t, 1);
    rates_of(op, z, head, t, rates);
    turn(z, rates, steps.dt[0], theta, sine, cosine);
    for (int64_t r = 0; r < z.rank; ++r) {
      const int64_t at = r * z.ngroups * z.d_state + group;
      z.ordered(op.B.row(t) + at, channels);
      rotate(z, channels, weights.of_B(0, r), sine, cosine, turned);
      z.restored(turned, k + r * z.n);
      z.ordered(op.C.row(t) + at, channels);
      rotate(z, channels, weights.of_C(0, r), sine, cosine, turned);
      z.restored(turned, c + r * z.n);
    }
    inputs(op, z, head, op.x.row(t) + head * z.headdim, v);
    const F alpha = set(steps.alpha[0]);
    for (int64_t p = 0; p < z.headdim; ++p) {
      float* h = state.ssm + p * z.d_state;
      for (int64_t r = 0; r < z.rank; ++r) {
        const F own = set(steps.own[0] * v[r * z.p + p]), carried = set(steps.carried[0] * v_before[r * z.p + p]);
        const float *k_r = k + r * z.n, *before_r = k_before + r * z.n;
        auto states = [&](int64_t n, auto... count) {
          F s = load(h + n, count...);
          if (r == 0) s = alpha * s;
          store(h + n, fma(own, load(k_r + n, count...), fma(alpha * carried, load(before_r + n, count...), s)),
                count...);
        };
        int64_t n = 0;
        for (; n + kLanes <= z.d_state; n += kLanes) states(n);
        if (n < z.d_state) states(n, int(z.d_state - n));
      }
      for (int64_t r = 0; r < z.rank; ++r) out[r * z.p + p] = dot(h, c + r * z.n, z.d_state);
    }
    for (int64_t r = 0; r < z.rank; ++r) clear(out + r * z.p + z.headdim, z.p - z.headdim);
    if (op.D) add_skip(op, z, head, v, out);
    if (op.outputs) keep_outputs(op, z, head, t, out, false);
    finish(op, z, head, t, out);
    std::swap(k, k_before), std::swap(v, v_before);
  }
  copy_row(theta, state.angle, z.angles);
  for (int64_t r = 0; r < z.rank; ++r) copy_row(k_before + r * z.n, state.k + r * state.k_stride, z.d_state);
  copy_row(op.x.row(end - 1) + head * z.headdim, state.v, z.headdim);
}
inline int64_t recurrent_floats(const Sizes& z) {
  return HeadWeights::floats(z, 1) + Steps::floats(1) + 4 * z.s + 2 * z.n + 3 * z.rank * (z.n + z.p) + 16 * 12;
}

}  // namespace statespace::STATESPACE_ISA::mamba3
