#pragma once
// The gradient of one head of Mamba-3 in one sequence: around the products of its chunks (ChunkProducts) gate and norm
// before them, steps and rotations behind.
#include <cstring>

#include "kernels/activation_gradients.h"
#include "kernels/mamba3_chunks.h"

namespace statespace::STATESPACE_ISA::mamba3 {

class HeadGradient : public HeadChunks {
 public:
  HeadGradient(const Mamba3Backward& op, const Mamba3& forward, const TokenRows& shared, const Sizes& z, Workspace& w,
               int64_t sequence, int64_t head, int64_t begin, int64_t end, Arena& arena)
      : HeadChunks(op, forward, shared, z, w, sequence, head, begin, end, arena),
        G_(arena.take(size_)),
        later_(arena.take(z.s)) {
    for (float** each : {&own_, &carried_, &log_a_, &turns_}) {
      *each = arena.take(padded(end - begin));
      std::memset(*each, 0, padded(end - begin) * sizeof(float));
    }
    w_.chunk.clear_state(G_);
    if (op_.dlast_ssm) read_state(row_of(op_.dlast_ssm, z_.headdim * z_.d_state), G_);
    clear(later_, z_.s);
    if (op_.dlast_angle) copy_row(row_of(op_.dlast_angle, z_.angles), later_, z_.angles);
  }
  static int64_t floats(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    return HeadChunks::floats(op, z, tokens) + ChunkProducts::state_floats(z) + z.s + 4 * padded(tokens) + 6 * 16;
  }

  // Segments come from the last to the first; after this one it is the turn of `next` and its `next_segment`.
  void run(const Context& cx, int64_t segment, const HeadSums& sums, const TokenSums& totals, const HeadGradient& next,
           int64_t next_segment) {
    const int64_t chunks = count(end_ - begin_), first = segment * segment_;
    const int64_t last = std::min(chunks, first + segment_) - 1;
    if (chunks > 0) start(first);
    for (int64_t c = first; c < last; ++c) {
      cx.check_stop();
      prepare(c, per_, false);
      w_.chunk.ahead = rows_of(c + 1, true, c + 1 == last);
      w_.chunk.advance(per_, state(c), state(c + 1));
    }
    for (int64_t c = last; c >= first; --c) {
      cx.check_stop();
      w_.chunk.ahead = c > first ? rows_of(c - 1, w_.places == 1, true) : next.rows_of_segment(next_segment);
      backward(c, c < last && w_.places > 1, sums, totals);
    }
    if (segment > 0) return;
    initial(sums);
    steps(sums);
  }

 private:
  template <class... Lanes>
  F weight(const Tensor& w, int64_t r, int64_t i, Lanes... m) const {
    return w ? load(w.row(head_) + r * z_.headdim + i, m...) : set(1);
  }
  // Stores of some lanes take as long as several of whole vectors, and what is loaded next waits for them.
  static void put(float* to, F x, int m) { m < kLanes ? store(to, x, m) : store(to, x); }
  static void add(float* to, F x) { store(to, load(to) + x); }

  void backward(int64_t c, bool there, const HeadSums& sums, const TokenSums& totals) {
    const int64_t token = begin_ + c * per_, n = std::min(per_, end_ - token);
    prepare(c, n, there);
    prepare_queries(c, n);
    w_.chunk.begin(w_.steps, n, op_.D ? op_.D.f32()[head_] : 0);
    const bool gated = op_.z || op_.norm_weight || op_.mimo_o;
    if (gated && !op_.outputs) w_.chunk.outputs(n, state(c));
    if (op_.norm_weight)
      for (int64_t t = 0; t < n; ++t) norm_and_gate(token, t, sums);
    else if (gated)
      channels([&](int64_t i, auto... m) { gate(token, n, i, sums, m...); });
    else
      for (int64_t t = 0; t < n; ++t)
        channels([&](int64_t i, auto... m) {
          store(w_.chunk.u + t * z_.p + i, load(op_.dy.row(token + t) + head_ * z_.headdim + i, m...));
        });
    const int64_t to = token * z_.rank * z_.n;
    w_.chunk.ahead.add(totals.B + to, n * z_.rank * z_.n), w_.chunk.ahead.add(totals.C + to, n * z_.rank * z_.n);
    // Without ranks v is x.
    const bool straight = op_.dx && !op_.mimo_x && !op_.dlast_v && z_.headdim == z_.p;
    straight ? w_.chunk.give_dv(op_.dx.row(token) + head_ * z_.headdim, op_.dx.row_stride) : w_.chunk.give_dv();
    w_.chunk.gradients(w_.steps, n, state(c), G_);
    *sums.D += w_.chunk.dskip;
    for (int64_t t = 0; t < n; ++t) {
      const int64_t at = token + t - begin_;
      log_a_[at] = w_.chunk.slopes[t];
      own_[at] += w_.chunk.down[t] + w_.chunk.dw[t];
      if (token + t + 1 < end_) carried_[at + 1] += w_.chunk.dw[t];
    }
    if (!straight) channels([&](int64_t i, auto... m) { written(token, n, i, sums, m...); });
    turned(c, n, sums, totals);
  }

  // Row r of y of a token.
  const float* output(int64_t token, int64_t row, int64_t r) const {
    return op_.outputs ? op_.outputs.row(token) + (r * z_.nheads + head_) * z_.headdim : w_.chunk.y + row * z_.p;
  }

  // Through the gate from y to the gradients of its rows: some channels of n tokens, so that sums over them stay in
  // registers.
  template <class... Lanes>
  [[gnu::always_inline]] void gate(int64_t first, int64_t n, int64_t i, const HeadSums& sums, Lanes... m) const {
    const int64_t at = head_ * z_.headdim + i;
    F dz[ChunkProducts::kChunkRows];
    for (int64_t t = 0; t < n; ++t) dz[t] = zero();
    for (int64_t r = 0; r < z_.rank; ++r) {
      const F out = weight(op_.mimo_o, r, i, m...), of_rank = weight(op_.mimo_z, r, i, m...);
      F of_out = load(sums.mimo_o + r * z_.p + i), of_z = load(sums.mimo_z + r * z_.p + i);
      for (int64_t t = 0; t < n; ++t) {
        const int64_t row = t * z_.rank + r;
        const F upstream = load(op_.dy.row(first + t) + at, m...), y = load(output(first + t, row, r) + i, m...);
        F gate = set(1);
        if (op_.z) {
          const F z = load(op_.z.row(first + t) + at, m...), dgate = upstream * out * y * silu_gradient(z * of_rank);
          gate = silu(z * of_rank);
          dz[t] = fma(dgate, of_rank, dz[t]), of_z = fma(dgate, z, of_z);
        }
        of_out = fma(upstream * gate, y, of_out);
        store(w_.chunk.u + row * z_.p + i, upstream * out * gate);
      }
      store(sums.mimo_o + r * z_.p + i, of_out), store(sums.mimo_z + r * z_.p + i, of_z);
    }
    for (int64_t t = 0; op_.dz && t < n; ++t) store(op_.dz.row(first + t) + at, dz[t], m...);
  }

  // The same through gate and norm, of one token.
  void norm_and_gate(int64_t first, int64_t t, const HeadSums& sums) {
    const int64_t token = first + t, at = head_ * z_.headdim;
    const float* dy = op_.dy.row(token) + at;
    clear(w_.dz, z_.p);
    for (int64_t r = 0; r < z_.rank; ++r) {
      const int64_t row = t * z_.rank + r;
      float *units = w_.chunk.y + row * z_.p, *u = w_.chunk.u + row * z_.p;
      const float* y = output(token, row, r);
      F squares = zero(), along = zero();
      channels([&](int64_t i, auto... m) { squares = fma(load(y + i, m...), load(y + i, m...), squares); });
      const F scale = set(1 / std::sqrt(sum(squares) / float(z_.headdim) + op_.norm_eps));
      channels([&](int64_t i, auto... m) {
        const F unit = scale * load(y + i, m...), norm = weight(op_.norm_weight, 0, i, m...),
                out = weight(op_.mimo_o, r, i, m...), upstream = load(dy + i, m...);
        F gate = set(1);
        if (op_.z) {
          const F z = load(op_.z.row(token) + at + i, m...), of_rank = weight(op_.mimo_z, r, i, m...);
          const F dgate = upstream * out * unit * norm * silu_gradient(z * of_rank);
          gate = silu(z * of_rank);
          add(w_.dz + i, dgate * of_rank);
          add(sums.mimo_z + r * z_.p + i, dgate * z);
        }
        add(sums.mimo_o + r * z_.p + i, upstream * unit * norm * gate);
        const F dnormed = upstream * out * gate;
        add(sums.norm + i, dnormed * unit);
        along = fma(dnormed * norm, unit, along);
        store(u + i, dnormed * norm);
        store(units + i, unit);
      });
      const F mean = set(sum(along) / float(z_.headdim));
      channels([&](int64_t i, auto...) { store(u + i, scale * fnma(mean, load(units + i), load(u + i))); });
    }
    if (op_.dz) channels([&](int64_t i, auto... m) { store(op_.dz.row(token) + at + i, load(w_.dz + i), m...); });
  }

  // From v to x, some channels of n tokens.
  template <class... Lanes>
  [[gnu::always_inline]] void written(int64_t first, int64_t n, int64_t i, const HeadSums& sums, Lanes... m) const {
    const int64_t at = head_ * z_.headdim + i;
    F dx[ChunkProducts::kChunkRows];
    for (int64_t t = 0; t < n; ++t) dx[t] = zero();
    if (op_.dlast_v && first + n == end_) dx[n - 1] = load(row_of(op_.dlast_v, z_.headdim) + i, m...);
    for (int64_t r = 0; r < z_.rank; ++r) {
      const F factor = weight(op_.mimo_x, r, i, m...);
      F total = load(sums.mimo_x + r * z_.p + i);
      for (int64_t t = 0; t < n; ++t) {
        const F dv = load(w_.chunk.dv + (t * z_.rank + r) * z_.p + i);
        dx[t] = fma(factor, dv, dx[t]);
        if (op_.mimo_x) total = fma(dv, load(f_.x.row(first + t) + at, m...), total);
      }
      store(sums.mimo_x + r * z_.p + i, total);
    }
    for (int64_t t = 0; op_.dx && t < n; ++t) store(op_.dx.row(first + t) + at, dx[t], m...);
  }

  // From k and c through their rotations to B and C, and to the angles, each of which turns all later tokens. A vector
  // of channels goes through all tokens of the chunk, so that sums over them stay in registers.
  [[gnu::noinline, gnu::flatten]] void turned(int64_t c, int64_t n, const HeadSums& sums, const TokenSums& totals) {
    const int64_t first = begin_ + c * per_;
    for (int64_t r = 0; op_.dlast_k && first + n == end_ && r < z_.rank; ++r) {
      z_.ordered(row_of_k(op_.dlast_k, r), w_.channels);
      float* last = w_.chunk.dk + ((n - 1) * z_.rank + r) * z_.n;
      for (int64_t i = 0; i < z_.n; i += kLanes) add(last + i, load(w_.channels + i));
    }
    const int64_t token = z_.rank * z_.n, to = first * token;
    const Rows both[] = {{w_.chunk.k, w_.chunk.dk, sums.B_bias, totals.B + to, token},
                         {w_.chunk.c, w_.chunk.dc, sums.C_bias, totals.C + to, token}};
    F turns[ChunkProducts::kChunkRows];
    for (F& turn : turns) turn = zero();
    for (int64_t i = 0; i < z_.angles; i += kLanes) {
      F of_token[ChunkProducts::kChunkRows];  // of θ, by what a token reads and writes itself
      for (int64_t t = 0; t < n; ++t) of_token[t] = zero();
      const int m = z_.angles - i < kLanes ? int(z_.angles - i) : kLanes;
      for (const Rows& rows : both)
        for (int64_t at = i; at < token; at += z_.n)
          m < kLanes ? turn_back(rows, at, n, c, i, totals.first, of_token, m)
                     : turn_back(rows, at, n, c, i, totals.first, of_token);
      F later = load(later_ + i);
      for (int64_t t = n - 1; t >= 0; --t) {
        later = later + of_token[t];
        const F rate = load_some(rates(first + t) + i, m);
        turns[t] = fma(later, rate, turns[t]);
        // π (1 - tanh²), rate = π tanh
        const F slope = set(dt(t)) * later * (set(3.14159265f) - rate * rate * set(0.318309886f));
        float* shared = totals.angles + (first + t) * z_.s + i;
        if (op_.angles.rank == 2)
          put(shared, totals.first ? slope : load_some(shared, m) + slope, m);
        else if (op_.dangles)
          put(op_.dangles.row(first + t) + head_ * z_.angles + i, slope, m);
      }
      store(later_ + i, later);
    }
    for (int64_t t = 0; t < n; ++t) turns_[first + t - begin_] = sum(turns[t]);
    for (int64_t i = 2 * z_.angles; i < z_.d_state; i += kLanes) {
      const int m = z_.d_state - i < kLanes ? int(z_.d_state - i) : kLanes;
      for (const Rows& rows : both)
        for (int64_t at = i; at < token; at += z_.n)
          m < kLanes ? pass_on(rows, at, n, totals.first, m) : pass_on(rows, at, n, totals.first);
    }
  }

  // Rows of k or c of a chunk's tokens, `token` floats each, their gradients, and where those of B or C are added up.
  struct Rows {
    const float *rotated, *d;
    float *bias, *to;
    int64_t token;
  };
  // One rank's channels from `at` on and their partners, whose angles stand at i.
  template <class... Lanes>
  [[gnu::always_inline]] void turn_back(const Rows& rows, int64_t at, int64_t n, int64_t chunk, int64_t i, bool first,
                                        F* of_token, Lanes... m) const {
    const float *sines = sine(chunk, 0) + i, *cosines = cosine(chunk, 0) + i;
    F sum = load(rows.bias + at, m...), other_sum = load(rows.bias + at + z_.angles, m...);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t own = t * rows.token + at, other = own + z_.angles;
      const F s = load(sines + t * z_.s), c = load(cosines + t * z_.s);
      const F a = load(rows.d + own, m...), b = load(rows.d + other, m...);
      of_token[t] = fma(b, load(rows.rotated + own, m...), fnma(a, load(rows.rotated + other, m...), of_token[t]));
      const F x = fma(a, c, b * s), y = fnma(a, s, b * c);
      sum = sum + x, other_sum = other_sum + y;
      store(rows.to + own, first ? x : load(rows.to + own, m...) + x, m...);
      store(rows.to + other, first ? y : load(rows.to + other, m...) + y, m...);
    }
    store(rows.bias + at, sum, m...), store(rows.bias + at + z_.angles, other_sum, m...);
  }
  // Channels that are not rotated.
  template <class... Lanes>
  [[gnu::always_inline]] void pass_on(const Rows& rows, int64_t at, int64_t n, bool first, Lanes... m) const {
    F sum = load(rows.bias + at, m...);
    for (int64_t t = 0; t < n; ++t) {
      const F x = load(rows.d + t * rows.token + at, m...);
      float* to = rows.to + t * rows.token + at;
      sum = sum + x;
      store(to, first ? x : load(to, m...) + x, m...);
    }
    store(rows.bias + at, sum, m...);
  }

  // The states before the first token: G is the gradient of S'_0, of which S_0 is a part.
  void initial(const HeadSums& sums) {
    const bool none = begin_ == end_;
    float* const G = w_.row;  // a row
    for (int64_t p = 0; op_.dssm_state && p < z_.headdim; ++p) {
      read_row(G_, p, G);
      z_.restored(G, row_of(op_.dssm_state, z_.headdim * z_.d_state) + p * z_.d_state);
    }
    if (op_.dangle_state) copy_row(later_, row_of(op_.dangle_state, z_.angles), z_.angles);
    clear(w_.dv_before, z_.p);
    if (none && op_.dlast_v) copy_row(row_of(op_.dlast_v, z_.headdim), w_.dv_before, z_.headdim);
    if (op_.k_state && !none) w_.steps.fill(f_, head_, begin_, 1);
    for (int64_t r = 0; r < z_.rank && op_.k_state; ++r) {
      clear(w_.channels, z_.n);
      if (none && op_.dlast_k) z_.ordered(row_of_k(op_.dlast_k, r), w_.channels);
      const float *k = w_.k_before + r * z_.n, *v = w_.v_before + r * z_.p, *x = row_of(op_.v_state, z_.headdim);
      for (int64_t p = 0; p < z_.headdim && !none; ++p) {
        read_row(G_, p, G);
        const float seen = dot(G, k, z_.n), dv = w_.steps.carried[0] * seen;
        carried_[0] += v[p] * seen;
        const int64_t at = r * z_.headdim + p;
        w_.dv_before[p] += (op_.mimo_x ? op_.mimo_x.row(head_)[at] : 1) * dv;
        sums.mimo_x[r * z_.p + p] += dv * x[p];
        for (int64_t i = 0; i < z_.n; i += kLanes)
          store(w_.channels + i, fma(set(w_.steps.carried[0] * v[p]), load(G + i), load(w_.channels + i)));
      }
      if (op_.dk_state) z_.restored(w_.channels, row_of_k(op_.dk_state, r));
    }
    if (op_.dv_state) copy_row(w_.dv_before, row_of(op_.dv_state, z_.headdim), z_.headdim);
  }

  // From tau dt, (1 - tau) dt, log a and the turns to dt, adt and trap.
  void steps(const HeadSums& sums) {
    const float bias = op_.dt_bias ? op_.dt_bias.f32()[head_] : 0;
    for (int64_t first = 0; first < end_ - begin_; first += per_) {
      const int64_t n = std::min(per_, end_ - begin_ - first);
      w_.steps.fill(f_, head_, begin_ + first, n);
      alignas(64) float taus[ChunkProducts::kChunkRows + kLanes], slopes[ChunkProducts::kChunkRows + kLanes];
      for (int64_t t = 0; t < padded(n); ++t) {
        taus[t] = t < n ? op_.trap.row(begin_ + first + t)[head_] : 0;
        slopes[t] = t < n ? op_.dt.row(begin_ + first + t)[head_] + bias : 0;
      }
      for (int64_t t = 0; t < n; t += kLanes) {
        store(taus + t, sigmoid(load(taus + t)));
        store(slopes + t, softplus_gradient(load(slopes + t)));
      }
      for (int64_t t = first; t < first + n; ++t) {
        const int64_t token = begin_ + t;
        const float step = w_.steps.dt[t - first], tau = taus[t - first], u = op_.adt.row(token)[head_];
        float ddt = tau * own_[t] + (1 - tau) * carried_[t] + turns_[t], dadt = log_a_[t];
        if (op_.raw_steps) {
          const float rate = u < 0 ? 1 / (1 - u) : 1 + u, slope = u < 0 ? rate * rate : 1;
          ddt -= std::max(op_.a_floor, rate) * log_a_[t];
          dadt = rate < op_.a_floor ? 0 : -slope * step * log_a_[t];
          ddt *= slopes[t - first];
        }
        *sums.dt_bias += ddt;
        if (op_.ddt) op_.ddt.row(token)[head_] = ddt;
        if (op_.dadt) op_.dadt.row(token)[head_] = dadt;
        if (op_.dtrap) op_.dtrap.row(token)[head_] = step * (own_[t] - carried_[t]) * tau * (1 - tau);
      }
    }
  }

  float *const G_, *const later_;            // (p, n); (s): of θ of all later tokens
  float *own_, *carried_, *log_a_, *turns_;  // (tokens): of tau dt, (1 - tau) dt, log a, and of dt by the angles
};

}  // namespace statespace::STATESPACE_ISA::mamba3
