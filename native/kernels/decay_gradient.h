#pragma once
// The gradient of the recurrences with one decay a token and head (SSD, retention), in chunks of matrix products:
//   S_t = a_t S_{t-1} + x_t k_tᵀ,   y_t = S_t q_t,   S (value, key)
// Inside a chunk, l_t the sum of log a from its start, K_st = k_s·q_t, W_st = x_s·u_t (u the gradient of y) and D_st =
// e^{l_t - l_s} for s <= t, else 0:
//   dx_s = Σ_t D K u_t + e^{l_n - l_s} G k_s,   dk_s = Σ_t D W q_t + e^{l_n - l_s} Gᵀ x_s,
//   dq_t = Σ_s D W k_s + e^{l_t} S_0ᵀ u_t,   G_0 = e^{l_n} G + Σ_t e^{l_t} u_t q_tᵀ
// The slope in log a_τ is the sum over all pairs that it decays: s < τ <= t. They are added up as such, by running
// sums; differences of sums over all pairs would leave rounding where the decay is strong.
#include <algorithm>
#include <cstring>

#include "isa/math.h"
#include "kernels/prefetch_bytes.h"
#include "kernels/product.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

// Tokens of a chunk, and bounds of the padded sizes.
constexpr int64_t kDecayChunk = 64;
inline int64_t vector_columns(int64_t n) { return ceil_div(n, kLanes) * kLanes; }
inline int64_t tile_rows(int64_t n) { return whole_tiles(vector_columns(n)); }

// to (columns, rows) = fromᵀ; both have room for whole vectors of rows and columns.
inline void transpose_block(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to,
                            int64_t to_stride) {
  for (int64_t i = 0; i < rows; i += kLanes)
    for (int64_t j = 0; j < columns; j += kLanes) {
      F square[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) square[r] = load(from + (i + r) * from_stride + j);
      transpose(square);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r) store(to + (j + r) * to_stride + i, square[r]);
    }
}

// Sums of log a from a chunk's start, in two floats: they grow while their differences matter to the last digit.
// A step beyond -kReset leaves nothing of a state: it counts as one of -kReset and hides no digits of the others.
struct LogDecays {
  static constexpr double kReset = 1000;
  float *high, *low;
  static constexpr int64_t kFloats = 2 * (kDecayChunk + kLanes);
  explicit LogDecays(float* memory) : high(memory), low(memory + kDecayChunk + kLanes) {}
  // step(i): log a of the chunk's token i.
  template <class Step>
  void fill(int64_t n, Step&& step) {
    double total = 0;
    for (int64_t i = 0; i < vector_columns(n); ++i) {
      const double log_decay = i < n ? step(i) : 0;
      total += log_decay < -kReset ? -kReset : log_decay;
      high[i] = float(total), low[i] = float(total - high[i]);
    }
  }
  F between(int64_t s, int64_t t) const { return exp((load(high + t) - set(high[s])) + (load(low + t) - set(low[s]))); }
  F from_start(int64_t t) const { return exp(load(high + t) + load(low + t)); }
  F to(int64_t last, int64_t t) const {
    return exp((set(high[last]) - load(high + t)) + (set(low[last]) - load(low + t)));
  }
};

// tile += U B for an upper triangular U of n columns, from its diagonal (kFrom = 0) or the one above it (1) on. A row
// is a sum over the rows of B from its own on, and no more, as in add_lower().
template <int kFrom = 0, class Rows>
[[gnu::always_inline]] inline void add_upper(Rows& tile, int64_t n, Strided U, const float* b, int64_t b_stride) {
  constexpr int kVectors = int(sizeof(tile.v[0]) / sizeof(F));
  const float* block = U.data + tile.row * (U.row + U.column);
  const float* own = b + tile.row * b_stride + tile.column;
#pragma GCC unroll 8
  for (int s = kFrom; s < kRows; ++s) {
    if (s >= tile.rows) return;
    F x[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) x[j] = load(own + s * b_stride + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i <= s - kFrom; ++i) {
      const F u = set(block[i * U.row + s * U.column]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) tile.v[i][j] = fma(u, x[j], tile.v[i][j]);
    }
  }
  const int64_t after = tile.row + kRows;
  tile.add(n - after, {U.data + after * U.column, U.row, U.column}, b + after * b_stride, b_stride);
}

// Rows that are needed next, brought near a few at a time while tiles are multiplied: taken when they are needed, rows
// that lie kilobytes apart are waited for one after the other.
struct RowsAhead {
  const float* data = nullptr;
  int64_t stride = 0, rows = 0, width = 0;
  // With the tiles of rows from `first` on.
  template <class Place>
  [[gnu::always_inline]] void fetch(const Place& place) const {
    if (place.column != 0) return;
    const int64_t end = std::min(rows, place.row + kRows);
    for (int64_t i = place.row; i < end; ++i) prefetch_bytes(data + i * stride, width * int64_t(sizeof(float)));
  }
};

// Not inlined: SSD and retention share the code of each instruction set. One chunk of n tokens. q and k are shared by
// heads; rows of q, k and their gradients have `key_stride` floats, those of x, u and dx `value_stride`.
class DecayGradient {
 public:
  static constexpr int64_t kRowCount = kDecayChunk + 16;  // room for whole tiles
  const int64_t keys, values, key_stride, value_stride;
  float *q, *k;               // (tokens, key): the caller's
  float *dq, *dk;             // (tokens, key): sums over heads
  float *x, *u;               // (tokens, value): the caller's, of one head
  float* dx;                  // (tokens, value)
  float* y;                   // (tokens, value): of outputs()
  float slopes[kDecayChunk];  // dlog a
  LogDecays decays;           // the caller's, of one head
  RowsAhead ahead[5];         // the caller's: fetched by advance() (the first) and head()

  static int64_t state_floats(int64_t keys, int64_t values) { return tile_rows(values) * vector_columns(keys); }
  static int64_t floats(int64_t keys, int64_t values) {
    return 4 * kRowCount * vector_columns(keys) + 6 * kRowCount * vector_columns(values) +
           2 * tile_rows(keys) * kDecayChunk + tile_rows(values) * kDecayChunk + 5 * kRowCount * kDecayChunk +
           kRowCount * vector_columns(keys) + tile_rows(keys) * vector_columns(values) + LogDecays::kFloats +
           3 * kRowCount + 1024;
  }

  DecayGradient(int64_t keys, int64_t values, float* memory)
      : keys(keys),
        values(values),
        key_stride(vector_columns(keys)),
        value_stride(vector_columns(values)),
        decays(memory) {
    float* next = memory + LogDecays::kFloats;
    auto take = [&](int64_t n) {
      float* p = next;
      next += ceil_div(n, 16) * 16;
      std::memset(p, 0, n * sizeof(float));  // what lies behind the rows is multiplied, if not used
      return p;
    };
    for (float** rows : {&q, &k, &dq, &dk, &carried_}) *rows = take(kRowCount * key_stride);
    for (float** rows : {&x, &u, &dx, &y, &x_end_, &u_start_}) *rows = take(kRowCount * value_stride);
    for (float** square : {&KT_, &WT_, &MT_, &DT_, &sum_}) *square = take(kRowCount * kDecayChunk);
    qt_ = take(tile_rows(keys) * kDecayChunk), ut_ = take(tile_rows(values) * kDecayChunk);
    turned_ = take(tile_rows(keys) * value_stride);
    for (float** vector : {&from_start_, &to_end_, &running_}) *vector = take(kRowCount);
  }

  // S (value, key) at the chunk's end from that at its start, for x, k and decays.
  [[gnu::noinline, gnu::flatten]] void advance(int64_t n, const float* S, float* next) {
    decay_inputs(n);
    const float total = decay_of_all(n);
    each_tile(values, keys, [&](auto place) {
      Tile tile(place);
      tile.read(S, key_stride);
      tile.scale(total);
      tile.add(n, {x_end_, 1, value_stride}, k, key_stride);
      tile.write(next, key_stride);
      ahead[0].fetch(place);
    });
  }

  // Zeros in a state, or only in the rows past its last: all that is read and advance() does not write. Untouched
  // memory costs more than the products of a chunk.
  void clear_state(float* S) const { std::memset(S, 0, state_floats(keys, values) * sizeof(float)); }
  void clear_rest(float* S) const {
    const int64_t own = values * key_stride;
    std::memset(S + own, 0, (state_floats(keys, values) - own) * sizeof(float));
  }

  // After q and k have been given.
  [[gnu::noinline, gnu::flatten]] void begin(int64_t n) {
    transpose_block(q, key_stride, n, keys, qt_, kDecayChunk);
    each_tile(n, n, [&](auto place) {
      if (place.column + 2 * kLanes <= place.row) return;  // no query there sees the key
      Tile tile(place);
      tile.add(keys, {k, key_stride, 1}, qt_, kDecayChunk);
      tile.write(KT_, kDecayChunk);
    });
    for (float* sums : {dq, dk}) std::memset(sums, 0, n * key_stride * sizeof(float));
    std::memset(sum_, 0, n * kDecayChunk * sizeof(float));
  }

  // y of one head, from its state at the chunk's start.
  [[gnu::noinline, gnu::flatten]] void outputs(int64_t n, const float* S) {
    pairs(n);
    turn(S);
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, turned_, value_stride);
      tile.scale_rows(from_start_);
      tile.add_lower({MT_, 1, kDecayChunk}, x, value_stride);
      tile.write(y, value_stride);
    });
  }

  // dx and slopes of one head, S its state at the chunk's start; G becomes the gradient of that from the one of the
  // state at the chunk's end. What its q and k get is added to dq, dk and the sums of D W. `paired`: after outputs().
  [[gnu::noinline, gnu::flatten]] void head(int64_t n, const float* S, float* G, bool paired) {
    if (!paired) pairs(n);
    decay_inputs(n);
    const float total = decay_of_all(n);
    transpose_block(u, value_stride, n, values, ut_, kDecayChunk);
    each_tile(n, n, [&](auto place) {
      if (place.column + 2 * kLanes <= place.row) return;
      Tile tile(place);
      tile.add(values, {x, value_stride, 1}, ut_, kDecayChunk);
      tile.write(WT_, kDecayChunk);
      ahead[3].fetch(place);
    });
    const float through = total * dot(S, G, values * key_stride);
    add_pair_slopes(n, through);
    for (int64_t t = 0; t < n; ++t)
      for (int64_t c = 0; c < value_stride; c += kLanes)
        store(u_start_ + t * value_stride + c, set(from_start_[t]) * load(u + t * value_stride + c));

    turn(G);
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {k, key_stride, 1}, turned_, value_stride);
      tile.scale_rows(to_end_);
      // Keys of these rows are seen by their own token and later ones.
      add_upper(tile, n, {MT_, kDecayChunk, 1}, u, value_stride);
      tile.write(dx, value_stride);
      ahead[0].fetch(place);
    });
    carry(n, u_start_, S, q, dq, ahead[1]);  // Σ over t >= τ
    float later = 0;
    for (int64_t t = n - 1; t >= 0; --t) slopes[t] += later += running_[t];
    carry(n, x_end_, G, k, dk, ahead[2]);  // Σ over s < τ
    float earlier = 0;
    for (int64_t s = 0; s < n; ++s) slopes[s] += earlier, earlier += running_[s];
    each_tile(values, keys, [&](auto place) {
      Tile tile(place);
      tile.read(G, key_stride);
      tile.scale(total);
      tile.add(n, {u_start_, 1, value_stride}, q, key_stride);
      tile.write(G, key_stride);
      ahead[4].fetch(place);
    });
  }

  // After all heads: what the pairs give dq and dk.
  [[gnu::noinline, gnu::flatten]] void finish(int64_t n) {
    each_tile(n, keys, [&](auto place) {
      Tile tile(place);
      tile.read(dq, key_stride);
      tile.add_lower({sum_, 1, kDecayChunk}, k, key_stride);
      tile.write(dq, key_stride);
    });
    each_tile(n, keys, [&](auto place) {
      Tile tile(place);
      tile.read(dk, key_stride);
      add_upper(tile, n, {sum_, kDecayChunk, 1}, q, key_stride);
      tile.write(dk, key_stride);
    });
  }

 private:
  static float dot(const float* a, const float* b, int64_t n) {
    F total[4] = {zero(), zero(), zero(), zero()};
    int64_t i = 0;
    for (; i + 4 * kLanes <= n; i += 4 * kLanes)
      for (int j = 0; j < 4; ++j) total[j] = fma(load(a + i + j * kLanes), load(b + i + j * kLanes), total[j]);
    for (; i < n; i += kLanes) total[0] = fma(load(a + i), load(b + i), total[0]);
    return sum((total[0] + total[1]) + (total[2] + total[3]));
  }
  float decay_of_all(int64_t n) const { return from_start_[n - 1]; }

  // The decays at both ends of the chunk, and x decayed to its end.
  void decay_inputs(int64_t n) {
    for (int64_t t = 0; t < n; t += kLanes) {
      store(from_start_ + t, decays.from_start(t));
      store(to_end_ + t, decays.to(n - 1, t));
    }
    for (int64_t t = 0; t < n; ++t)
      for (int64_t c = 0; c < value_stride; c += kLanes)
        store(x_end_ + t * value_stride + c, set(to_end_[t]) * load(x + t * value_stride + c));
  }

  // MT = D K, and D itself; 0 where no query is or the key comes later.
  void pairs(int64_t n) {
    for (int64_t t = 0; t < n; t += kLanes) store(from_start_ + t, decays.from_start(t));
    alignas(64) float index[kLanes];
    for (int i = 0; i < kLanes; ++i) index[i] = float(i);
    const F lane = load(index);
    for (int64_t s = 0; s < n; ++s)
      for (int64_t t = 0; t < vector_columns(n); t += kLanes) {
        const int64_t at = s * kDecayChunk + t;
        if (t + kLanes <= s) {
          store(DT_ + at, zero()), store(MT_ + at, zero());
          continue;
        }
        F decay = decays.between(s, t), product = decay * load(KT_ + at);
        auto cut = [&](const M& outside) {
          decay = select(outside, zero(), decay), product = select(outside, zero(), product);
        };
        if (t < s) cut(less(lane, set(float(s - t))));
        if (t + kLanes > n) cut(less(set(float(n - t) - 0.5f), lane));
        store(DT_ + at, decay);
        store(MT_ + at, product);
      }
  }

  // slopes_τ = through + Σ_{s < τ <= t} K W D, and sum += D W.
  void add_pair_slopes(int64_t n, float through) {
    const int64_t width = vector_columns(n);
    std::memset(running_, 0, width * sizeof(float));  // of each query, over the keys before τ
    for (int64_t tau = 0; tau < n; ++tau) {
      const int64_t whole = std::min(width, ceil_div(tau, kLanes) * kLanes);
      float slope = 0;
      for (int64_t t = tau; t < whole; ++t) slope += running_[t];
      F total = zero();
      for (int64_t t = whole; t < width; t += kLanes) total = total + load(running_ + t);
      slope += sum(total);
      slopes[tau] = through + slope;
      for (int64_t t = tau / kLanes * kLanes; t < width; t += kLanes) {
        const int64_t at = tau * kDecayChunk + t;
        const F w = load(WT_ + at), decay = load(DT_ + at);
        const F both = select(less(zero(), decay), w * decay, zero());  // beyond the chunk w may be anything
        store(sum_ + at, load(sum_ + at) + both);
        store(running_ + t, fma(select(less(zero(), decay), load(KT_ + at), zero()), both, load(running_ + t)));
      }
    }
  }

  // turned (key, value) = the transpose of a state.
  void turn(const float* S) { transpose_block(S, key_stride, values, keys, turned_, value_stride); }

  // to (tokens, key) += rows S, and running = the products of these with `with`, by token.
  void carry(int64_t n, const float* rows, const float* S, const float* with, float* to, const RowsAhead& next) {
    each_tile(n, keys, [&](auto place) {
      Tile tile(place);
      tile.add(values, {rows, value_stride, 1}, S, key_stride);
      tile.write(carried_, key_stride);
      next.fetch(place);
    });
    for (int64_t t = 0; t < n; ++t) {
      F product = zero();
      for (int64_t c = 0; c < key_stride; c += kLanes) {
        const F v = load(carried_ + t * key_stride + c);
        product = fma(v, load(with + t * key_stride + c), product);
        store(to + t * key_stride + c, load(to + t * key_stride + c) + v);
      }
      running_[t] = sum(product);
    }
  }

  float *carried_, *x_end_, *u_start_, *KT_, *WT_, *MT_, *DT_, *sum_, *qt_, *ut_, *turned_, *from_start_, *to_end_,
      *running_;
};

}  // namespace statespace::STATESPACE_ISA
