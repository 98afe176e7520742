#pragma once
// Mamba-3's tokens as its products take them: steps, angles, and rows (token, rank) of k, c and v of one head. Channels
// of d_state stand in an order that puts those of a pair one run apart: first all first ones, then all second ones,
// then those that are not rotated. Products of k and c do not depend on it.
#include "isa/math.h"
#include "kernels/head_chunk.h"
#include "kernels/head_state.h"
#include "kernels/product.h"
#include "ops/mamba3.h"

namespace statespace::STATESPACE_ISA::mamba3 {

struct Sizes {
  int64_t nheads, headdim, ngroups, d_state, rank, angles;
  int64_t p, n, s;  // headdim, d_state and angles, padded
  bool mimo;

  explicit Sizes(const Mamba3& op)
      : nheads(op.x[1]),
        headdim(op.x[2]),
        ngroups(op.ngroups()),
        d_state(op.d_state()),
        rank(op.rank()),
        angles(op.angle_count()),
        p(padded(headdim)),
        n(padded(d_state)),
        s(padded(angles)),
        mimo(op.mimo()) {}
  int64_t group(int64_t head) const { return head / (nheads / ngroups); }
  // Which channel stands at i.
  int64_t channel(int64_t i) const {
    if (!mimo) return i < angles ? 2 * i : i < 2 * angles ? 2 * (i - angles) + 1 : i;
    const int64_t half = d_state / 2;
    if (i < angles) return i;
    if (i < 2 * angles) return half + i - angles;
    return i - angles < half ? i - angles : i;
  }
  // A row of channels in that order, zeros behind; and back.
  void ordered(const float* from, float* to) const {
    each_run([&](int64_t at, int64_t channel, int64_t step, int64_t n) {
      if (step == 1) return copy_row(from + channel, to + at, n);
      for (int64_t i = 0; i < n; ++i) to[at + i] = from[channel + 2 * i];
    });
    clear(to + d_state, n - d_state);
  }
  void restored(const float* from, float* to) const {
    each_run([&](int64_t at, int64_t channel, int64_t step, int64_t n) {
      for (int64_t i = 0; i < n; ++i) to[channel + i * step] = from[at + i];
    });
  }
  // fn(at, channel, step, n): the n channels from `channel` on, `step` apart, stand from `at` on.
  template <class Fn>
  void each_run(Fn&& fn) const {
    const int64_t half = d_state / 2;
    fn(0, 0, mimo ? 1 : 2, angles);
    fn(angles, mimo ? half : 1, mimo ? 1 : 2, angles);
    if (!mimo) return fn(2 * angles, 2 * angles, 1, d_state - 2 * angles);
    fn(2 * angles, angles, 1, half - angles);
    fn(half + angles, half + angles, 1, d_state - half - angles);
  }
};

struct Arena {
  float* next;
  float* take(int64_t floats) {
    float* p = next;
    next += ceil_div(floats, 16) * 16;
    return p;
  }
};

// x mod 2π, in [0, 2π).
inline F reduced(F x) {
  const F turns = floor(x * set(0.159154943f));
  const F r = fnma(turns, set(-1.7484556e-7f), fnma(turns, set(6.2831855f), x));
  return select(less(r, zero()), zero(), select(less(set(6.2831853f), r), zero(), r));
}

// sin and cos of x in [0, 2π]: by quarters, and polynomials on [-π/4, π/4].
inline void sine_cosine(F x, F* sine, F* cosine) {
  constexpr float kSine[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  constexpr float kCosine[] = {4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f};
  const F q = round(x * set(0.636619772f));
  const F r = fnma(q, set(-4.37113883e-8f), fnma(q, set(1.57079637f), x)), r2 = r * r;
  const F s = fma(r * r2, polynomial(r2, kSine), r);
  const F c = fma(r2 * r2, polynomial(r2, kCosine), fma(r2, set(-0.5f), set(1)));
  // q = 0 and 4: (s, c), 1: (c, -s), 2: (-s, -c), 3: (-c, s)
  auto is = [&](float k) { return less(abs(q - set(k)), set(0.5f)); };
  const F minus_s = zero() - s, minus_c = zero() - c;
  *sine = select(is(1), c, select(is(2), minus_s, select(is(3), minus_c, s)));
  *cosine = select(is(1), minus_s, select(is(2), minus_c, select(is(3), s, c)));
}

// The steps of consecutive tokens of one head: α, what a token writes (tau dt), and what its predecessor still writes
// with it ((1 - tau) dt, before α). Padded rows.
struct Steps {
  float *dt, *alpha, *own, *carried;
  Steps(Arena& arena, int64_t tokens)
      : dt(arena.take(padded(tokens))),
        alpha(arena.take(padded(tokens))),
        own(arena.take(padded(tokens))),
        carried(arena.take(padded(tokens))) {}
  static int64_t floats(int64_t tokens) { return 4 * (padded(tokens) + 16); }

  void fill(const Mamba3& op, int64_t head, int64_t token, int64_t count) {
    const float bias = op.dt_bias ? op.dt_bias.f32()[head] : 0;
    for (int64_t t = 0; t < count; ++t) {
      dt[t] = op.dt.row(token + t)[head] + bias, alpha[t] = op.adt.row(token + t)[head];
      own[t] = op.trap.row(token + t)[head];
    }
    for (int64_t t = count; t < padded(count); ++t) dt[t] = alpha[t] = own[t] = 0;
    for (int64_t t = 0; t < count; t += kLanes) {
      F d = load(dt + t), a = load(alpha + t);
      if (op.raw_steps) {
        d = softplus(d);
        const F rate = select(less(a, zero()), set(1) / (set(1) - min(a, zero())), set(1) + a);
        a = zero() - max(set(op.a_floor), rate) * d;
      }
      const F tau = sigmoid(load(own + t));
      store(dt + t, d);
      store(alpha + t, exp(a));
      store(own + t, tau * d);
      store(carried + t, (set(1) - tau) * d);
    }
  }
};

// Biases of neighbouring heads, (head, rank, n) in the order of the channels.
class HeadWeights {
 public:
  HeadWeights(Arena& arena, const Sizes& z, int64_t heads)
      : z_(z), B_(arena.take(heads * z.rank * z.n)), C_(arena.take(heads * z.rank * z.n)) {}
  static int64_t floats(const Sizes& z, int64_t heads) { return 2 * (heads * z.rank * z.n + 16); }
  float* of_B(int64_t i, int64_t rank) const { return B_ + (i * z_.rank + rank) * z_.n; }
  float* of_C(int64_t i, int64_t rank) const { return C_ + (i * z_.rank + rank) * z_.n; }
  // Those of head `head`, the i-th here.
  void read(const Mamba3& op, const Sizes& z, int64_t head, int64_t i) {
    for (int64_t r = 0; r < z.rank; ++r) {
      z.ordered(op.B_bias.row(head) + r * z.d_state, of_B(i, r));
      z.ordered(op.C_bias.row(head) + r * z.d_state, of_C(i, r));
    }
  }

 private:
  const Sizes& z_;
  float *B_, *C_;
};

// How fast θ turns at a token, π tanh(angles); without angles of their own it is one row for all heads.
inline void rates_of(const Mamba3& op, const Sizes& z, int64_t head, int64_t token, float* rates) {
  const float* raw = op.angles.row(token) + (op.angles.rank == 3 ? head * z.angles : 0);
  for (int64_t i = 0; i < z.angles; i += kLanes) {
    const F angle = z.angles - i < kLanes ? load(raw + i, int(z.angles - i)) : load(raw + i);
    store(rates + i, set(3.14159265f) * tanh(angle));
  }
}

// θ goes on by one token, and its sine and cosine.
inline void turn(const Sizes& z, const float* rates, float dt, float* theta, float* sine, float* cosine) {
  for (int64_t i = 0; i < z.angles; i += kLanes) {
    const F next = reduced(fma(load(rates + i), set(dt), load(theta + i)));
    store(theta + i, next);
    F s, c;
    sine_cosine(next, &s, &c);
    store(sine + i, s);
    store(cosine + i, c);
  }
}

// out = rot(row + bias), all in the order of the channels; with kAsGiven, row is one of MIMO's B or C, whose runs
// follow each other in another order. out is not row.
template <bool kAsGiven = false>
inline void rotate(const Sizes& z, const float* row, const float* bias, const float* sine, const float* cosine,
                   float* out) {
  // Copies, as stores of vectors might change what z holds.
  const int64_t channels = z.d_state, half = channels / 2, angles = z.angles, second = kAsGiven ? half : angles;
  auto straight = [=](int64_t at, int64_t from, int64_t n) {
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) store(out + at + i, load(row + from + i) + load(bias + at + i));
    const int m = int(n - i);
    if (m > 0) store(out + at + i, load(row + from + i, m) + load(bias + at + i, m), m);
  };
  auto pairs = [=](int64_t i, auto... m) {
    const F a = load(row + i, m...) + load(bias + i, m...);
    const F b = load(row + second + i, m...) + load(bias + angles + i, m...);
    const F s = load(sine + i), c = load(cosine + i);
    store(out + i, fnma(b, s, a * c), m...);
    store(out + angles + i, fma(a, s, b * c), m...);
  };
  if constexpr (kAsGiven) {
    straight(2 * angles, angles, half - angles);
    straight(half + angles, half + angles, channels - half - angles);
  } else {
    straight(2 * angles, 2 * angles, channels - 2 * angles);
  }
  int64_t i = 0;
  for (; i + kLanes <= angles; i += kLanes) pairs(i);
  if (i < angles) pairs(i, int(angles - i));
  for (int64_t i = channels; i < z.n; ++i) out[i] = 0;
}

// v_r = x ∘ mimoX_r, (rank, p), zeros behind.
inline void inputs(const Mamba3& op, const Sizes& z, int64_t head, const float* x, float* v) {
  const float* factors = z.mimo ? op.mimo_x.row(head) : nullptr;
  const int64_t rank = z.rank, headdim = z.headdim, p = z.p;
  auto part = [=](int64_t i, auto... m) {
    const F value = load(x + i, m...);
    if (!factors) return store(v + i, value);
    for (int64_t r = 0; r < rank; ++r) store(v + r * p + i, value * load(factors + r * headdim + i, m...));
  };
  int64_t i = 0;
  for (; i + kLanes <= headdim; i += kLanes) part(i);
  if (i < headdim) part(i, int(headdim - i));
}

// A row of p by its root mean square and the head's weights.
inline void normalise(const Mamba3& op, const Sizes& z, int64_t head, float* row) {
  F squares = zero();
  for (int64_t i = 0; i < z.p; i += kLanes) squares = fma(load(row + i), load(row + i), squares);
  const F scale = set(1 / std::sqrt(sum(squares) / float(z.headdim) + op.norm_eps));
  for (int64_t i = 0; i < z.headdim; i += kLanes) {
    const int m = z.headdim - i < kLanes ? int(z.headdim - i) : kLanes;
    store(row + i, load(row + i) * scale * load_some(op.norm_weight.row(head) + i, m));
  }
}

// out_r += D v_r of one token; out and v (rank, p).
inline void add_skip(const Mamba3& op, const Sizes& z, int64_t head, const float* v, float* out) {
  const F skip = set(op.D.f32()[head]);
  for (int64_t i = 0; i < z.rank * z.p; i += kLanes) store(out + i, fma(skip, load(v + i), load(out + i)));
}

// y = Σ_r (norm(out_r) ∘ silu(z ∘ mimoZ_r)) ∘ mimoO_r of one token; out (rank, p), which is spoilt.
inline void finish(const Mamba3& op, const Sizes& z, int64_t head, int64_t token, float* out) {
  const int64_t at = head * z.headdim;
  const float* gate = op.z ? op.z.row(token) + at : nullptr;
  const float *gates = z.mimo && gate ? op.mimo_z.row(head) : nullptr, *outs = z.mimo ? op.mimo_o.row(head) : nullptr;
  float* y = op.y.row(token) + at;
  if (op.norm_weight)
    for (int64_t r = 0; r < z.rank; ++r) normalise(op, z, head, out + r * z.p);
  const int64_t rank = z.rank, headdim = z.headdim, p = z.p;
  auto part = [=](int64_t i, auto... m) {
    const F g = gate ? load(gate + i, m...) : zero();
    F sum = zero();
    for (int64_t r = 0; r < rank; ++r) {
      F o = load(out + r * p + i);
      if (gate) o = o * silu(gates ? g * load(gates + r * headdim + i, m...) : g);
      sum = outs ? fma(o, load(outs + r * headdim + i, m...), sum) : o;
    }
    store(y + i, sum, m...);
  };
  int64_t i = 0;
  for (; i + kLanes <= headdim; i += kLanes) part(i);
  if (i < headdim) part(i, int(headdim - i));
}

}  // namespace statespace::STATESPACE_ISA::mamba3
