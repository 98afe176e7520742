#pragma once
// The real selective scan over a block of channels: tiles of tokens, each in three phases over small buffers (what
// depends on the token and channel alone, the states, the output), so that the states' loop holds nothing but states.
// Fused per token the same work runs at a fifth of the speed.

#include "core/context.h"
#include "isa/math.h"
#include "kernels/rate.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "kernels/step_decay.h"
#include "ops/selective_scan.h"

namespace statespace::STATESPACE_ISA::selective_scan {

constexpr int64_t kTokens = 16;  // a tile; 8 to 32 are equal
// States that one pass over a tile holds in registers, of kLanes channels each.
constexpr int kStates = kLanes == 16 ? 16 : 4;
// From here on a sequence is worth bringing its states into that layout.
constexpr int64_t kShort = 4;
constexpr float kLog2e = 1.44269504f;

// Channels [first, first + count) of one group.
struct Block {
  int64_t first, count, group;
  int64_t width() const { return ceil_div(count, kLanes) * kLanes; }
};

// Buffers of one block, rows of `width` channels: dt, dt·u and y of a tile (kTokens, width); A·log2(e), the states and
// constant B and C as (width / kLanes, d_state, kLanes); where inputs are halves, u, delta and z of a tile (kTokens,
// width) and B and C (kTokens, d_state) as floats.
struct Buffers {
  float *dt, *du, *y, *A, *h, *B, *C, *own;
  Buffers(float* p, int64_t width, int64_t d_state)
      : dt(p),
        du(dt + kTokens * width),
        y(du + kTokens * width),
        A(y + kTokens * width),
        h(A + width * d_state),
        B(h + width * d_state),
        C(B + width * d_state),
        own(C + width * d_state) {}
  static int64_t floats(int64_t width, int64_t d_state, bool halves) {
    return width * (3 * kTokens + 4 * d_state) + (halves ? kTokens * (3 * width + 2 * d_state) : 0);
  }
};

inline bool reads_halves(const SelectiveScan& op) {
  for (const Tensor* t : {&op.u, &op.delta, &op.z, &op.B, &op.C})
    if (*t && t->dtype != DType::f32) return true;
  return false;
}

// The op with tokens [token, token + count) of a block as floats.
inline SelectiveScan tile_of(const SelectiveScan& op, const Block& b, int64_t token, int64_t count, float* own) {
  SelectiveScan tile = op;
  const int64_t d_state = op.A[1];
  for (Tensor* t : {&tile.u, &tile.delta, &tile.z}) {
    if (*t) *t = floats_of(*t, token, count, b.first, b.count, own);
    own += kTokens * b.width();
  }
  for (Tensor* t : {&tile.B, &tile.C}) {
    if (!op.constant(*t)) *t = floats_of(*t, token, count, b.group * d_state, d_state, own);
    own += kTokens * d_state;
  }
  return tile;
}

// fn(i, n…) for the vectors of [0, count): n is absent, or the number of lanes of the last one.
template <class Fn>
inline void vectors(int64_t count, Fn&& fn) {
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) fn(i);
  if (i < count) fn(i, int(count - i));
}

// dt = softplus(delta + deltaBias), du = dt·u. The softplus in two passes: a chain of exp and log fills the core's
// schedulers (28 cycles a vector in one pass, 21 in two).
inline void prepare(const SelectiveScan& op, const Block& b, int64_t token, int64_t count, const Buffers& to) {
  const float* bias = op.delta_bias ? op.delta_bias.f32() + b.first : nullptr;
  for (int64_t t = 0; t < count; ++t) {
    const float *u = op.u.row(token + t) + b.first, *delta = op.delta.row(token + t) + b.first;
    float *dt = to.dt + t * b.width(), *du = to.du + t * b.width();
    auto biased = [&](int64_t i, auto... n) {
      return bias ? load(delta + i, n...) + load(bias + i, n...) : load(delta + i, n...);
    };
    if (op.delta_softplus)
      vectors(b.count, [&](int64_t i, auto... n) { store(dt + i, exp(min(set(20.f), biased(i, n...)))); });
    vectors(b.count, [&](int64_t i, auto... n) {
      F step = biased(i, n...);
      if (op.delta_softplus) step = softplus_of(step, load(dt + i));
      store(dt + i, step);
      store(du + i, step * load(u + i, n...));
    });
  }
}

// y = (y + D u) · silu(z)
inline void finish(const SelectiveScan& op, const Block& b, int64_t token, int64_t count, const Buffers& from) {
  const float* D = op.D ? op.D.f32() + b.first : nullptr;
  for (int64_t t = 0; t < count; ++t) {
    const float* u = op.u.row(token + t) + b.first;
    const float* z = op.z ? op.z.row(token + t) + b.first : nullptr;
    const float* sum = from.y + t * b.width();
    float* y = op.y.row(token + t) + b.first;
    vectors(b.count, [&](int64_t i, auto... n) {
      F out = load(sum + i);
      if (D) out = fma(load(D + i, n...), load(u + i, n...), out);
      if (z) out = out * silu(load(z + i, n...));
      store(y + i, out, n...);
    });
  }
}

// fn(channel, state) for squares of kLanes channels by kLanes states, rest(channel, state) for what is left.
template <class Fn, class Rest>
inline void squares_of(int64_t channels, int64_t d_state, Fn&& fn, Rest&& rest) {
  const int64_t whole = d_state / kLanes * kLanes;
  for (int64_t c = 0; c < channels; c += kLanes) {
    const bool full = c + kLanes <= channels;
    for (int64_t n = 0; full && n < whole; n += kLanes) fn(c, n);
    const int64_t end = full ? c + kLanes : channels;
    for (int64_t i = c; i < end; ++i)
      for (int64_t n = full ? whole : 0; n < d_state; ++n) rest(i, n);
  }
}

// (count, d_state) rows to (width / kLanes, d_state, kLanes), times `scale`, missing channels zero; and back.
inline void interleave(const float* rows, int64_t stride, const Block& b, int64_t d_state, float scale, float* out) {
  const auto place = [&](int64_t c, int64_t n) { return out + (c / kLanes * d_state + n) * kLanes + c % kLanes; };
  const auto square = [&](int64_t c, int64_t n) {
    F r[kLanes];
    for (int i = 0; i < kLanes; ++i) r[i] = load(rows + (c + i) * stride + n) * set(scale);
    transpose(r);
    for (int i = 0; i < kLanes; ++i) store(place(c, n + i), r[i]);
  };
  squares_of(b.count, d_state, square, [&](int64_t c, int64_t n) { *place(c, n) = scale * rows[c * stride + n]; });
  for (int64_t c = b.count; c < b.width(); ++c)
    for (int64_t n = 0; n < d_state; ++n) *place(c, n) = 0.f;
}
inline void deinterleave(const float* in, const Block& b, int64_t d_state, float* rows) {
  const auto place = [&](int64_t c, int64_t n) { return in + (c / kLanes * d_state + n) * kLanes + c % kLanes; };
  const auto square = [&](int64_t c, int64_t n) {
    F r[kLanes];
    for (int i = 0; i < kLanes; ++i) r[i] = load(place(c, n + i));
    transpose(r);
    for (int i = 0; i < kLanes; ++i) store(rows + (c + i) * d_state + n, r[i]);
  };
  squares_of(b.count, d_state, square, [&](int64_t c, int64_t n) { rows[c * d_state + n] = *place(c, n); });
}

// Where B or C of a token is, and how its state n reads: one float for all channels, or a vector of theirs.
template <bool kConstant>
struct Coefficient {
  const float* data;
  int64_t stride;
  const float* at(int64_t token) const { return kConstant ? data : data + token * stride; }
  Coefficient from(int64_t n) const { return {data + (kConstant ? n * kLanes : n), stride}; }
  static F read(const float* p, int n) { return kConstant ? load(p + n * kLanes) : set(p[n]); }
};

// The rows of the next tile, brought to L2 while this one's states are computed: without it the scan of 1536 channels
// runs at three quarters of the speed. Into L1 gives much less: rows 6 KB apart use two of its sets.
struct NextTile {
  NextTile(const SelectiveScan& op, int64_t token, int64_t channel) {
    const Tensor* tensors[] = {&op.u, &op.delta, &op.y, &op.z};
    for (int i = 0; i < 4; ++i) {
      const Tensor& t = *tensors[i];
      strides[i] = dtype_bytes(t.dtype, t.row_stride);
      rows[i] = t ? t.as<char>() + token * strides[i] + dtype_bytes(t.dtype, channel) : nullptr;
    }
  }
  const char* rows[4];
  int64_t strides[4];
  void fetch(int64_t t) const {
    for (int i = 0; i < 4; ++i)
      if (rows[i]) prefetch(rows[i] + t * strides[i]);
  }
};

// kN states of kLanes channels over a tile: h in registers, y (kTokens, width) set or added to.
template <int kN, bool kConstantB, bool kConstantC>
inline void scan_states(const float* dt, const float* du, int64_t width, int64_t count, const float* A,
                        Coefficient<kConstantB> B, Coefficient<kConstantC> C, const NextTile* next, bool add, float* h,
                        float* y) {
  F state[kN];
#pragma GCC unroll 16
  for (int n = 0; n < kN; ++n) state[n] = load(h + n * kLanes);
  for (int64_t t = 0; t < count; ++t) {
    const F step = load(dt + t * width), input = load(du + t * width);
    const float *b = B.at(t), *c = C.at(t);
    F sum = add ? load(y + t * width) : zero();
#pragma GCC unroll 16
    for (int n = 0; n < kN; ++n) {
      state[n] = fma(step_decay(step * load(A + n * kLanes)), state[n], input * B.read(b, n));
      sum = fma(C.read(c, n), state[n], sum);
    }
    store(y + t * width, sum);
    if (next) next->fetch(t);
  }
#pragma GCC unroll 16
  for (int n = 0; n < kN; ++n) store(h + n * kLanes, state[n]);
}

// States [n, d_state) of kLanes channels over a tile, kN at a time.
template <int kN, bool kConstantB, bool kConstantC>
inline void scan_vector(const float* dt, const float* du, int64_t width, int64_t count, const float* A,
                        Coefficient<kConstantB> B, Coefficient<kConstantC> C, const NextTile* next, int64_t n,
                        int64_t d_state, float* h, float* y) {
  for (; n + kN <= d_state; n += kN)
    scan_states<kN>(dt, du, width, count, A + n * kLanes, B.from(n), C.from(n), n == 0 ? next : nullptr, n > 0,
                    h + n * kLanes, y);
  if constexpr (kN > 1)
    if (n < d_state) scan_vector<kN / 2>(dt, du, width, count, A, B, C, next, n, d_state, h, y);
}

// The states as rows (d_state, channels), at a place among as many.
inline void keep_states(const Tensor& states, const Block& b, int64_t at, int64_t d_state, const float* h) {
  for (int64_t n = 0; n < d_state; ++n) {
    float* to = states.row(at * d_state + n) + b.first;
    vectors(b.count, [&](int64_t c, auto... lanes) { store(to + c, load(h + c * d_state + n * kLanes), lanes...); });
  }
}

// One sequence, channels across lanes.
template <bool kConstantB, bool kConstantC>
void scan_wide(const SelectiveScan& op, const Block& b, int64_t begin, int64_t end, float* state,
               const Buffers& buffers, const Context& cx) {
  const int64_t d_state = op.A[1], width = b.width();
  const bool halves = reads_halves(op);
  SelectiveScan tile = op;
  interleave(op.A.row(b.first), op.A.row_stride, b, d_state, kLog2e, buffers.A);
  for (int64_t i = 0; i < width * d_state; i += kLanes) store(buffers.A + i, finite_rate(load(buffers.A + i)));
  interleave(state, d_state, b, d_state, 1, buffers.h);
  if (kConstantB) interleave(op.B.row(b.first), op.B.row_stride, b, d_state, 1, buffers.B);
  if (kConstantC) interleave(op.C.row(b.first), op.C.row_stride, b, d_state, 1, buffers.C);
  // Lanes behind the last channel stay finite: their states multiply with whatever stands here.
  for (int64_t i = 0; i < 2 * kTokens * width; ++i) buffers.dt[i] = 0.f;
  const int64_t interval = op.interval(d_state);
  for (int64_t t = begin; t < end; t += kTokens) {
    cx.check_stop();
    const int64_t count = end - t < kTokens ? end - t : kTokens;
    const bool last = t + 2 * kTokens > end;
    if (op.states && t > begin && (t - begin) % interval == 0)
      keep_states(op.states, b, t / interval - 1, d_state, buffers.h);
    if (halves) tile = tile_of(op, b, t, count, buffers.own);
    prepare(tile, b, t, count, buffers);
    const float *token_B = tile.B.row(t) + b.group * d_state, *token_C = tile.C.row(t) + b.group * d_state;
    for (int64_t c = 0; c < width; c += kLanes) {
      const int64_t v = c * d_state;
      const Coefficient<kConstantB> B{kConstantB ? buffers.B + v : token_B, tile.B.row_stride};
      const Coefficient<kConstantC> C{kConstantC ? buffers.C + v : token_C, tile.C.row_stride};
      const NextTile next(op, t + kTokens, b.first + c);
      scan_vector<kStates>(buffers.dt + c, buffers.du + c, width, count, buffers.A + v, B, C, last ? nullptr : &next, 0,
                           d_state, buffers.h + v, buffers.y + c);
    }
    finish(tile, b, t, count, buffers);
  }
  deinterleave(buffers.h, b, d_state, state);
}

// One token of one channel, states across lanes: h = exp(dt·A) h + dt·B·u; what C·h sums to over the lanes. `lanes`:
// absent, or how many of the last vector there are.
template <class... Lanes>
inline F step_states(F dt, F du, const float* A, F B, F C, float* h, F sum, Lanes... lanes) {
  const F next = fma(step_decay(dt * finite_rate(load(A, lanes...))), load(h, lanes...), du * B);
  store(h, next, lanes...);
  return fma(C, next, sum);
}

// Rows of A and of the states that lie `ahead` floats behind the next vector: one token passes by each of them once.
// Left to the processor, a step of 1536 channels by 16 read 16 of 55 GB/s.
constexpr int64_t kAhead = 1024;
inline void fetch_rows(const float* A, const float* state, int64_t floats) {
  for (int64_t i = 0; i < floats; i += 16) prefetch(A + i), prefetch(state + i);
}

// One short sequence, states across lanes: A, the states and constant B and C are read in place.
inline void scan_narrow(const SelectiveScan& op, const Block& b, int64_t begin, int64_t end, float* state,
                        const Buffers& buffers) {
  const int64_t d_state = op.A[1], width = b.width();
  const bool constant_B = op.constant(op.B), constant_C = op.constant(op.C);
  fetch_rows(op.A.row(b.first), state, std::min(kAhead, b.count * d_state));
  prepare(op, b, begin, end - begin, buffers);
  for (int64_t t = begin; t < end; ++t) {
    const float *dts = buffers.dt + (t - begin) * width, *dus = buffers.du + (t - begin) * width;
    const float *token_B = op.B.row(t) + b.group * d_state, *token_C = op.C.row(t) + b.group * d_state;
    // One vector of states, B and C the token's: they stay in registers.
    auto step_vector = [&](int64_t c, F B, F C) {
      return step_states(set(kLog2e * dts[c]), set(dus[c]), op.A.row(b.first + c), B, C, state + c * d_state, zero());
    };
    auto step_any = [&](int64_t c) {
      const float* B = constant_B ? op.B.row(b.first + c) : token_B;
      const float* C = constant_C ? op.C.row(b.first + c) : token_C;
      const F dt = set(kLog2e * dts[c]), du = set(dus[c]);
      F sum = zero();
      vectors(d_state, [&](int64_t n, auto... lanes) {
        sum = step_states(dt, du, op.A.row(b.first + c) + n, load(B + n, lanes...), load(C + n, lanes...),
                          state + c * d_state + n, sum, lanes...);
      });
      return sum;
    };
    // C·h of a square of channels is summed across lanes at once, by a transposition.
    auto squares = [&](auto&& step) {
      for (int64_t c = 0; c < b.count; c += kLanes) {
        F parts[kLanes];
        const int channels = b.count - c < kLanes ? int(b.count - c) : kLanes;
        if (t == begin) fetch_rows(op.A.row(b.first + c) + kAhead, state + c * d_state + kAhead, channels * d_state);
        for (int i = 0; i < channels; ++i) parts[i] = step(c + i);
        for (int i = channels; i < kLanes; ++i) parts[i] = zero();
        transpose(parts);
#pragma GCC unroll 4
        for (int half = kLanes / 2; half > 0; half /= 2)
          for (int i = 0; i < half; ++i) parts[i] = parts[i] + parts[i + half];
        store(buffers.y + (t - begin) * width + c, parts[0]);
      }
    };
    if (d_state == kLanes && !constant_B && !constant_C) {
      const F B = load(token_B), C = load(token_C);
      squares([&](int64_t c) { return step_vector(c, B, C); });
    } else {
      squares(step_any);
    }
  }
  finish(op, b, begin, end - begin, buffers);
}

inline void scan_block(const SelectiveScan& op, const Block& b, int64_t begin, int64_t end, float* state,
                       const Buffers& buffers, const Context& cx) {
  if (end - begin < kShort) {
    if (!reads_halves(op)) return scan_narrow(op, b, begin, end, state, buffers);
    return scan_narrow(tile_of(op, b, begin, end - begin, buffers.own), b, begin, end, state, buffers);
  }
  const bool constant_B = op.constant(op.B), constant_C = op.constant(op.C);
  if (!constant_B && !constant_C) return scan_wide<false, false>(op, b, begin, end, state, buffers, cx);
  if (constant_B && constant_C) return scan_wide<true, true>(op, b, begin, end, state, buffers, cx);
  if (constant_B) return scan_wide<true, false>(op, b, begin, end, state, buffers, cx);
  return scan_wide<false, true>(op, b, begin, end, state, buffers, cx);
}

}  // namespace statespace::STATESPACE_ISA::selective_scan
