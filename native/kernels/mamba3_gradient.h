#pragma once
// The gradient of one head of Mamba-3 in one sequence, by the chunks of SSD's (DecayGradient): a row for each rank of
// each token, the first of which decays. There a row sees the rows before it and itself, at the weight w_t; what is
// different inside a token (all of its rows, at tau dt) is added here: with e_rj = c_r·k_j and f_rj = g_r·v_j,
//   y_r += Σ_j m_rj e_rj v_j,   m_rj = tau dt for the rows j behind r, else -(1 - tau_{t+1}) dt_{t+1}
#include <cstring>

#include "kernels/activation_gradients.h"
#include "kernels/decay_gradient.h"
#include "kernels/mamba3_head.h"

namespace statespace::STATESPACE_ISA::mamba3 {

// Sums over the tokens of a sequence, of one head; channels of d_state in the order of mamba3_head.h.
struct HeadSums {
  float *B_bias, *C_bias;           // (rank, n)
  float *mimo_x, *mimo_z, *mimo_o;  // (rank, p)
  float *norm, *D, *dt_bias;        // (p), (1), (1)
  static int64_t floats(const Sizes& z) { return 2 * z.rank * z.n + 3 * z.rank * z.p + z.p + 16; }
  HeadSums(const Sizes& z, float* memory) : B_bias(memory), C_bias(B_bias + z.rank * z.n) {
    mimo_x = C_bias + z.rank * z.n, mimo_z = mimo_x + z.rank * z.p, mimo_o = mimo_z + z.rank * z.p;
    norm = mimo_o + z.rank * z.p, D = norm + z.p, dt_bias = D + 1;
  }
};

// What heads add to for the tokens of a call: (tokens, rank, n), and (tokens, s) of angles that heads share.
struct TokenSums {
  float *B, *C, *angles;
  bool first;  // the first head writes
};

class HeadGradient {
 public:
  HeadGradient(const Mamba3Backward& op, const Mamba3& forward, const Sizes& z, int64_t tokens, Arena arena)
      : op_(op),
        f_(forward),
        z_(z),
        per_(kDecayChunk / z.rank),
        rows_(per_ * z.rank),
        size_(DecayGradient::state_floats(z.d_state, z.headdim)),
        chunk_(z.d_state, z.headdim, arena.take(DecayGradient::floats(z.d_state, z.headdim))),
        weights_(arena, z, 1),
        steps_(arena, per_ + 1) {
    const int64_t chunks = count(tokens);
    states_ = arena.take(std::max<int64_t>(1, chunks) * size_), G_ = arena.take(size_);
    starts_ = arena.take(chunks * z.s), theta_ = arena.take(z.s), later_ = arena.take(z.s), dtheta_ = arena.take(z.s);
    rates_ = arena.take(per_ * z.s), sine_ = arena.take(per_ * z.s), cosine_ = arena.take(per_ * z.s);
    channels_ = arena.take(z.n), turned_ = arena.take(z.n);
    v_ = arena.take(rows_ * z.p), e_ = arena.take(rows_ * z.rank), dz_ = arena.take(z.p);
    k_before_ = arena.take(z.rank * z.n), v_before_ = arena.take(z.rank * z.p), dv_before_ = arena.take(z.p);
    for (float** each : {&own_, &carried_, &log_a_, &turns_}) *each = arena.take(padded(tokens));
  }
  static int64_t floats(const Sizes& z, int64_t tokens) {
    const int64_t per = kDecayChunk / z.rank, rows = per * z.rank, chunks = ceil_div(tokens, per);
    return DecayGradient::floats(z.d_state, z.headdim) +
           (chunks + 2) * DecayGradient::state_floats(z.d_state, z.headdim) + HeadWeights::floats(z, 1) +
           Steps::floats(per + 1) + (chunks + 3 + 3 * per) * z.s + (2 + z.rank) * z.n + (rows + z.rank + 2) * z.p +
           rows * z.rank + 4 * padded(tokens) + 16 * 32;
  }

  void run(const Context& cx, int64_t sequence, int64_t head, int64_t begin, int64_t end, const HeadSums& sums,
           const TokenSums& shared) {
    sequence_ = sequence, head_ = head, begin_ = begin, end_ = end;
    weights_.read(f_, z_, head, 0);
    for (float* each : {own_, carried_, log_a_, turns_}) std::memset(each, 0, padded(end - begin) * sizeof(float));
    chunk_.clear_state(G_);
    if (op_.dlast_ssm) read_ordered(row_of(op_.dlast_ssm, z_.headdim * z_.d_state), G_);
    clear(later_, z_.s);
    if (op_.dlast_angle) copy_row(row_of(op_.dlast_angle, z_.angles), later_, z_.angles);
    forward(cx);
    for (int64_t c = count(end - begin) - 1; c >= 0; --c) {
      cx.check_stop();
      backward(c, sums, shared);
    }
    initial(sums);
    steps(sums);
  }

 private:
  int64_t count(int64_t tokens) const { return ceil_div(tokens, per_); }
  float* state(int64_t c) const { return states_ + c * size_; }
  float* row_of(const Tensor& t, int64_t width) const { return t.row(sequence_) + head_ * width; }
  // Of a tensor by rank and head: (sequences, rank, nheads, d_state) or without a rank.
  float* row_of_k(const Tensor& t, int64_t r) const { return t.row(sequence_) + (r * z_.nheads + head_) * z_.d_state; }
  void read_ordered(const float* from, float* S) const {
    for (int64_t p = 0; p < z_.headdim; ++p) z_.ordered(from + p * z_.d_state, S + p * z_.n);
  }
  float dt(int64_t t) const { return steps_.dt[t]; }

  // fn(offset in a head, lanes) over a head's channels.
  template <class Fn>
  void channels(Fn&& fn) const {
    for (int64_t i = 0; i < z_.headdim; i += kLanes) fn(i, z_.headdim - i < kLanes ? int(z_.headdim - i) : kLanes);
  }
  F weight(const Tensor& w, int64_t r, int64_t i, int m) const {
    return w ? load(w.row(head_) + r * z_.headdim + i, m) : set(1);
  }
  static void add(float* to, F x, int m) { store(to, load(to, m) + x, m); }

  // log a of a token.
  double log_decay(int64_t token, float step) const {
    const float u = op_.adt.row(token)[head_];
    return op_.raw_steps ? -double(std::max(op_.a_floor, u < 0 ? 1 / (1 - u) : 1 + u)) * step : double(u);
  }

  // Rows of a chunk's tokens. θ is that at the chunk's start before, and that at its end after.
  void prepare(int64_t token, int64_t n, bool reads) {
    const bool more = token + n < end_;
    steps_.fill(f_, head_, token, n + more);
    if (!more) steps_.carried[n] = 0;
    for (int64_t t = 0; t < n; ++t) {
      float *sine = sine_ + t * z_.s, *cosine = cosine_ + t * z_.s, *v = v_ + t * z_.rank * z_.p;
      rates_of(f_, z_, head_, token + t, rates_ + t * z_.s);
      turn(z_, rates_ + t * z_.s, dt(t), theta_, sine, cosine);
      inputs(f_, z_, head_, f_.x.row(token + t) + head_ * z_.headdim, v);
      for (int64_t r = 0; r < z_.rank; ++r) {
        const int64_t at = (r * z_.ngroups + z_.group(head_)) * z_.d_state, row = t * z_.rank + r;
        z_.ordered(f_.B.row(token + t) + at, channels_);
        rotate(z_, channels_, weights_.of_B(0, r), sine, cosine, chunk_.k + row * z_.n);
        for (int64_t i = 0; i < z_.p; i += kLanes)
          store(chunk_.x + row * z_.p + i, set(steps_.own[t] + steps_.carried[t + 1]) * load(v + r * z_.p + i));
        if (!reads) continue;
        z_.ordered(f_.C.row(token + t) + at, channels_);
        rotate(z_, channels_, weights_.of_C(0, r), sine, cosine, chunk_.q + row * z_.n);
      }
    }
    chunk_.decays.fill(n * z_.rank, [&](int64_t row) {
      return row % z_.rank ? 0 : log_decay(token + row / z_.rank, dt(row / z_.rank));
    });
  }

  // States and angles at the chunks' starts.
  void forward(const Context& cx) {
    const int64_t chunks = count(end_ - begin_);
    chunk_.clear_state(states_);
    clear(theta_, z_.s);
    if (op_.angle_state) copy_row(row_of(op_.angle_state, z_.angles), theta_, z_.angles);
    if (op_.ssm_state) read_ordered(row_of(op_.ssm_state, z_.headdim * z_.d_state), states_);
    if (op_.k_state && chunks > 0) carry_in();
    for (int64_t c = 0; c < chunks; ++c) {
      copy_row(theta_, starts_ + c * z_.s, z_.s);
      if (c + 1 == chunks) break;
      cx.check_stop();
      prepare(begin_ + c * per_, per_, false);
      chunk_.clear_rest(state(c + 1));
      chunk_.advance(rows_, state(c), state(c + 1));
    }
  }

  // What the first token adds of the one before it.
  void carry_in() {
    steps_.fill(f_, head_, begin_, 1);
    inputs(f_, z_, head_, row_of(op_.v_state, z_.headdim), v_before_);
    for (int64_t r = 0; r < z_.rank; ++r) {
      float* k = k_before_ + r * z_.n;
      z_.ordered(row_of_k(op_.k_state, r), k);
      for (int64_t p = 0; p < z_.headdim; ++p) {
        const F weight = set(steps_.carried[0] * v_before_[r * z_.p + p]);
        float* S = states_ + p * z_.n;
        for (int64_t i = 0; i < z_.n; i += kLanes) store(S + i, fma(weight, load(k + i), load(S + i)));
      }
    }
  }

  void backward(int64_t c, const HeadSums& sums, const TokenSums& shared) {
    const int64_t token = begin_ + c * per_, n = std::min(per_, end_ - token);
    copy_row(starts_ + c * z_.s, theta_, z_.s);
    prepare(token, n, true);
    chunk_.begin(n * z_.rank);
    for (int64_t row = 0; row < n * z_.rank; ++row)
      for (int64_t j = 0; j < z_.rank; ++j)
        e_[row * z_.rank + j] = dot(chunk_.q + row * z_.n, chunk_.k + (row / z_.rank * z_.rank + j) * z_.n, z_.n);
    const bool gated = op_.z || op_.norm_weight || op_.mimo_o;
    if (gated) {
      chunk_.outputs(n * z_.rank, state(c));
      for (int64_t t = 0; t < n; ++t) gates(token, t, sums);
    } else {
      for (int64_t t = 0; t < n; ++t)
        channels([&](int64_t i, int m) {
          store(chunk_.u + t * z_.p + i, load(op_.dy.row(token + t) + head_ * z_.headdim + i, m));
        });
    }
    chunk_.head(n * z_.rank, state(c), G_, gated);
    chunk_.finish(n * z_.rank);
    for (int64_t t = n - 1; t >= 0; --t) {
      inside(token, t);
      written(token, t, sums);
      turned(token, t, sums, shared);
    }
  }

  // How much row j of a token is in row r beyond what the chunk has of it.
  float more(int64_t t, int64_t r, int64_t j) const { return j > r ? steps_.own[t] : -steps_.carried[t + 1]; }

  // The rows of y of a token, and through gate and norm the gradients of those.
  void gates(int64_t first, int64_t t, const HeadSums& sums) {
    const int64_t token = first + t, at = head_ * z_.headdim;
    const float* dy = op_.dy.row(token) + at;
    clear(dz_, z_.p);
    for (int64_t r = 0; r < z_.rank; ++r) {
      const int64_t row = t * z_.rank + r;
      float *y = chunk_.y + row * z_.p, *u = chunk_.u + row * z_.p;
      for (int64_t j = 0; j < z_.rank; ++j) {
        float factor = more(t, r, j) * e_[row * z_.rank + j];
        if (j == r && op_.D) factor += op_.D.f32()[head_];
        const float* v = v_ + (t * z_.rank + j) * z_.p;
        for (int64_t i = 0; i < z_.p; i += kLanes) store(y + i, fma(set(factor), load(v + i), load(y + i)));
      }
      const F scale =
          set(op_.norm_weight ? 1 / std::sqrt(dot(y, y, z_.headdim) / float(z_.headdim) + op_.norm_eps) : 1);
      F along = zero();
      channels([&](int64_t i, int m) {
        const F unit = scale * load(y + i, m), norm = weight(op_.norm_weight, 0, i, m),
                out = weight(op_.mimo_o, r, i, m);
        const F upstream = load(dy + i, m);
        F gate = set(1), dgate = zero();
        if (op_.z) {
          const F z = load(op_.z.row(token) + at + i, m), of_rank = weight(op_.mimo_z, r, i, m);
          gate = silu(z * of_rank);
          dgate = upstream * out * unit * norm * silu_gradient(z * of_rank);
          add(dz_ + i, dgate * of_rank, m);
          add(sums.mimo_z + r * z_.p + i, dgate * z, m);
        }
        add(sums.mimo_o + r * z_.p + i, upstream * unit * norm * gate, m);
        const F dnormed = upstream * out * gate;
        add(sums.norm + i, dnormed * unit, m);
        along = fma(dnormed * norm, unit, along);
        store(u + i, dnormed * norm, m);
        store(y + i, unit, m);
      });
      if (!op_.norm_weight) continue;
      const F mean = set(sum(along) / float(z_.headdim));
      channels([&](int64_t i, int m) { store(u + i, scale * fnma(mean, load(y + i, m), load(u + i, m)), m); });
    }
    if (op_.dz) channels([&](int64_t i, int m) { store(op_.dz.row(token) + at + i, load(dz_ + i, m), m); });
  }

  // The gradients of v in the rows of dx, and those of tau dt and (1 - tau) dt.
  void inside(int64_t first, int64_t t) {
    const int64_t at = first + t - begin_;
    const bool followed = first + t + 1 < end_;
    const float w = steps_.own[t] + steps_.carried[t + 1], skip = op_.D ? op_.D.f32()[head_] : 0;
    log_a_[at] = chunk_.slopes[t * z_.rank];
    for (int64_t r = 0; r < z_.rank; ++r) {
      const int64_t row = t * z_.rank + r;
      const float written = dot(v_ + row * z_.p, chunk_.dx + row * z_.p, z_.p);
      own_[at] += written;
      if (followed) carried_[at + 1] += written;
      for (int64_t i = 0; i < z_.p; i += kLanes)
        store(chunk_.dx + row * z_.p + i,
              fma(set(w), load(chunk_.dx + row * z_.p + i), set(skip) * load(chunk_.u + row * z_.p + i)));
    }
    for (int64_t r = 0; r < z_.rank; ++r)
      for (int64_t j = 0; j < z_.rank; ++j) {
        const int64_t row = t * z_.rank + r, other = t * z_.rank + j;
        const float m = more(t, r, j), e = e_[row * z_.rank + j];
        const float f = dot(chunk_.u + row * z_.p, v_ + other * z_.p, z_.p);
        if (j > r)
          own_[at] += e * f;
        else if (followed)
          carried_[at + 1] -= e * f;
        for (int64_t i = 0; i < z_.p; i += kLanes) {
          float* dv = chunk_.dx + other * z_.p + i;
          store(dv, fma(set(m * e), load(chunk_.u + row * z_.p + i), load(dv)));
        }
        for (int64_t i = 0; i < z_.n; i += kLanes) {
          float *dc = chunk_.dq + row * z_.n + i, *dk = chunk_.dk + other * z_.n + i;
          store(dc, fma(set(m * f), load(chunk_.k + other * z_.n + i), load(dc)));
          store(dk, fma(set(m * f), load(chunk_.q + row * z_.n + i), load(dk)));
        }
      }
  }

  // From v to x.
  void written(int64_t first, int64_t t, const HeadSums& sums) {
    const int64_t token = first + t, at = head_ * z_.headdim;
    const float* x = f_.x.row(token) + at;
    channels([&](int64_t i, int m) {
      F dx = zero();
      if (op_.dlast_v && token + 1 == end_) dx = load(row_of(op_.dlast_v, z_.headdim) + i, m);
      for (int64_t r = 0; r < z_.rank; ++r) {
        const F dv = load(chunk_.dx + (t * z_.rank + r) * z_.p + i, m);
        dx = fma(weight(op_.mimo_x, r, i, m), dv, dx);
        add(sums.mimo_x + r * z_.p + i, dv * load(x + i, m), m);
      }
      if (op_.dx) store(op_.dx.row(token) + at + i, dx, m);
    });
    for (int64_t r = 0; r < z_.rank; ++r) {
      const int64_t row = (t * z_.rank + r) * z_.p;
      *sums.D += dot(chunk_.u + row, v_ + row, z_.p);
    }
  }

  // From k and c through their rotations to B and C, and to the angles, each of which turns all later tokens.
  void turned(int64_t first, int64_t t, const HeadSums& sums, const TokenSums& shared) {
    const int64_t token = first + t;
    const float *sine = sine_ + t * z_.s, *cosine = cosine_ + t * z_.s;
    clear(dtheta_, z_.s);
    for (int64_t r = 0; r < z_.rank; ++r) {
      const int64_t row = (t * z_.rank + r) * z_.n, to = (token * z_.rank + r) * z_.n;
      if (op_.dlast_k && token + 1 == end_) {
        z_.ordered(row_of_k(op_.dlast_k, r), channels_);
        for (int64_t i = 0; i < z_.n; i += kLanes) add(chunk_.dk + row + i, load(channels_ + i), kLanes);
      }
      turn_back(chunk_.k + row, chunk_.dk + row, sine, cosine, sums.B_bias + r * z_.n, shared.B + to, shared.first);
      turn_back(chunk_.q + row, chunk_.dq + row, sine, cosine, sums.C_bias + r * z_.n, shared.C + to, shared.first);
    }
    const bool own = op_.angles.rank == 3;
    float* to = shared.angles + token * z_.s;
    F turn = zero();
    for (int64_t i = 0; i < z_.angles; i += kLanes) {
      const int m = z_.angles - i < kLanes ? int(z_.angles - i) : kLanes;
      const F later = load(later_ + i, m) + load(dtheta_ + i, m), rate = load(rates_ + t * z_.s + i, m);
      store(later_ + i, later, m);
      turn = fma(later, rate, turn);
      // π (1 - tanh²), rate = π tanh
      const F slope = set(dt(t)) * later * (set(3.14159265f) - rate * rate * set(0.318309886f));
      if (own && op_.dangles) store(op_.dangles.row(token) + head_ * z_.angles + i, slope, m);
      if (!own) store(to + i, shared.first ? slope : load(to + i, m) + slope, m);
    }
    turns_[token - begin_] = sum(turn);
  }

  // d, the gradient of a rotated row, turned back: to what was rotated, its bias and the angles.
  void turn_back(const float* rotated, float* d, const float* sine, const float* cosine, float* bias, float* to,
                 bool first) {
    for (int64_t i = 0; i < z_.angles; i += kLanes) {
      const int m = z_.angles - i < kLanes ? int(z_.angles - i) : kLanes;
      const F a = load(d + i, m), b = load(d + z_.angles + i, m), s = load(sine + i), c = load(cosine + i);
      add(dtheta_ + i, b * load(rotated + i, m) - a * load(rotated + z_.angles + i, m), m);
      store(turned_ + i, fma(a, c, b * s), m);
      store(turned_ + z_.angles + i, fnma(a, s, b * c), m);
    }
    for (int64_t i = 2 * z_.angles; i < z_.d_state; i += kLanes) {
      const int m = z_.d_state - i < kLanes ? int(z_.d_state - i) : kLanes;
      store(turned_ + i, load(d + i, m), m);
    }
    for (int64_t i = 0; i < z_.d_state; i += kLanes) {
      const int m = z_.d_state - i < kLanes ? int(z_.d_state - i) : kLanes;
      const F x = load(turned_ + i, m);
      add(bias + i, x, m);
      store(to + i, first ? x : load(to + i, m) + x, m);
    }
  }

  // The states before the first token: G is the gradient of S'_0, of which S_0 is a part.
  void initial(const HeadSums& sums) {
    const bool none = begin_ == end_;
    if (op_.dssm_state)
      for (int64_t p = 0; p < z_.headdim; ++p)
        z_.restored(G_ + p * z_.n, row_of(op_.dssm_state, z_.headdim * z_.d_state) + p * z_.d_state);
    if (op_.dangle_state) copy_row(later_, row_of(op_.dangle_state, z_.angles), z_.angles);
    clear(dv_before_, z_.p);
    if (none && op_.dlast_v) copy_row(row_of(op_.dlast_v, z_.headdim), dv_before_, z_.headdim);
    if (op_.k_state && !none) steps_.fill(f_, head_, begin_, 1);
    for (int64_t r = 0; r < z_.rank && op_.k_state; ++r) {
      clear(channels_, z_.n);
      if (none && op_.dlast_k) z_.ordered(row_of_k(op_.dlast_k, r), channels_);
      const float *k = k_before_ + r * z_.n, *v = v_before_ + r * z_.p, *x = row_of(op_.v_state, z_.headdim);
      for (int64_t p = 0; p < z_.headdim && !none; ++p) {
        const float* G = G_ + p * z_.n;
        const float seen = dot(G, k, z_.n), dv = steps_.carried[0] * seen;
        carried_[0] += v[p] * seen;
        const int64_t at = r * z_.headdim + p;
        dv_before_[p] += (op_.mimo_x ? op_.mimo_x.row(head_)[at] : 1) * dv;
        sums.mimo_x[r * z_.p + p] += dv * x[p];
        for (int64_t i = 0; i < z_.n; i += kLanes)
          store(channels_ + i, fma(set(steps_.carried[0] * v[p]), load(G + i), load(channels_ + i)));
      }
      if (op_.dk_state) z_.restored(channels_, row_of_k(op_.dk_state, r));
    }
    if (op_.dv_state) copy_row(dv_before_, row_of(op_.dv_state, z_.headdim), z_.headdim);
  }

  // From tau dt, (1 - tau) dt, log a and the turns to dt, adt and trap.
  void steps(const HeadSums& sums) {
    for (int64_t t = 0; t < end_ - begin_; ++t) {
      const int64_t token = begin_ + t;
      steps_.fill(f_, head_, token, 1);
      const float step = steps_.dt[0], tau = lane(sigmoid(set(op_.trap.row(token)[head_]))),
                  u = op_.adt.row(token)[head_];
      float ddt = tau * own_[t] + (1 - tau) * carried_[t] + turns_[t], dadt = log_a_[t];
      if (op_.raw_steps) {
        const float rate = u < 0 ? 1 / (1 - u) : 1 + u, slope = u < 0 ? rate * rate : 1;
        ddt -= std::max(op_.a_floor, rate) * log_a_[t];
        dadt = rate < op_.a_floor ? 0 : -slope * step * log_a_[t];
        ddt *= lane(softplus_gradient(set(op_.dt.row(token)[head_] + (op_.dt_bias ? op_.dt_bias.f32()[head_] : 0))));
      }
      *sums.dt_bias += ddt;
      if (op_.ddt) op_.ddt.row(token)[head_] = ddt;
      if (op_.dadt) op_.dadt.row(token)[head_] = dadt;
      if (op_.dtrap) op_.dtrap.row(token)[head_] = step * (own_[t] - carried_[t]) * tau * (1 - tau);
    }
  }
  static float lane(F x) {
    alignas(64) float lanes[kLanes];
    store(lanes, x);
    return lanes[0];
  }

  const Mamba3Backward& op_;
  const Mamba3& f_;
  const Sizes& z_;
  const int64_t per_, rows_, size_;  // tokens of a chunk, their rows, floats of a state
  DecayGradient chunk_;
  HeadWeights weights_;
  Steps steps_;
  int64_t sequence_ = 0, head_ = 0, begin_ = 0, end_ = 0;
  float *states_, *G_;                         // (chunks, p, n), (p, n)
  float *starts_, *theta_, *later_, *dtheta_;  // (chunks, s), (s): θ, and the gradient of it and of all later ones
  float *rates_, *sine_, *cosine_;             // (tokens of a chunk, s)
  float *channels_, *turned_;                  // (n)
  float *v_, *e_, *dz_;                        // (rows, p), (rows, rank), (p)
  float *k_before_, *v_before_, *dv_before_;   // (rank, n), (rank, p), (p)
  float *own_, *carried_, *log_a_, *turns_;    // (tokens): of tau dt, (1 - tau) dt, log a, and of dt by the angles
};

}  // namespace statespace::STATESPACE_ISA::mamba3
