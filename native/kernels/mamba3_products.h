#pragma once
// The products of a chunk of Mamba-3's gradient, of one head. Rows i = (t, r), one for each rank of each token; u is
// the gradient of y, S and G the state before the chunk and the gradient of that behind it, D_ts the product of the α
// of tokens s+1 … t, D_t of all up to t, D_ns of all behind s, w_s = own_s + carried_{s+1}. With
//   E_ij = c_i·k_j,   F_ij = u_i·v_j,   P_ij = D_ts w_s for s < t, own_t for s = t (all rows of a token), else 0:
//   y_i = D_t S c_i + Σ_j (P E)_ij v_j + D v_i
//   dv_j = Σ_i (P E)_ij u_i + D u_j + D_ns w_s G k_j,   dk_j = Σ_i (P F)_ij c_i + D_ns w_s Gᵀ v_j
//   dc_i = Σ_j (P F)_ij k_j + D_t Sᵀ u_i,   G becomes D_n G + Σ_i D_t u_i c_iᵀ
// and, with Q_ts = D_ts Σ E F over the rows of two tokens, a_t = D_t Σ u_i·S c_i and b_s = D_ns Σ v_j·G k_j:
//   dw_s = Σ_t Q_ts + b_s,   down_t = Σ E F over the rows of t
//   dlog α_τ = Σ_{s<τ≤t} w_s Q_ts + Σ_{t≥τ} a_t + Σ_{s<τ} w_s b_s + D_n ⟨S, G⟩
// each a sum over what α_τ decays: differences of sums over all pairs would leave rounding where the decay is strong.
#include <algorithm>
#include <bit>
#include <utility>

#include "kernels/decay_gradient.h"
#include "kernels/head_panels.h"
#include "kernels/mamba3_head.h"

namespace statespace::STATESPACE_ISA::mamba3 {

// tile += U B for an upper triangular U of n columns with blocks of (rank, rank) on its diagonal, kRank, or any where
// that is 0, which may reach beyond the tile. A row is a sum over the rows of B from its block's first on, and no more,
// as in add_lower().
template <int kRank, class T>
[[gnu::always_inline]] inline void add_upper_blocks(T& tile, int64_t rank, int64_t n, Strided U, const float* b,
                                                    int64_t b_stride) {
  constexpr int kVectors = int(sizeof(tile.v[0]) / sizeof(F));
  const auto add_row = [&](int64_t s, int64_t rows) __attribute__((always_inline)) {
    F x[kVectors];
#pragma GCC unroll 2
    for (int j = 0; j < kVectors; ++j) x[j] = load(b + s * b_stride + tile.column + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      if (i >= rows) continue;
      const F u = set(U.data[(tile.row + i) * U.row + s * U.column]);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) tile.v[i][j] = fma(u, x[j], tile.v[i][j]);
    }
  };
  int64_t after = tile.row + kRows;
  if constexpr (kRank > 0) {
#pragma GCC unroll 8
    for (int s = 0; s < kRows; ++s) {
      if (s >= tile.rows) return;
      add_row(tile.row + s, (s / kRank + 1) * kRank);
    }
  } else {
    after = std::min(n, (tile.row + kRows - 1) / rank * rank);
    for (int64_t s = tile.row / rank * rank; s < after; ++s) add_row(s, (s / rank + 1) * rank - tile.row);
  }
  tile.add(n - after, {U.data + after * U.column, U.row, U.column}, b + after * b_stride, b_stride);
}

// One chunk of n tokens at a time. Not inlined: its parts are large.
class ChunkProducts {
 public:
  float *k, *v;        // (rows, n), (rows, p): in the caller's memory of row_count() rows
  float *c, *u;        // the same, the caller's
  float *dk, *dc, *y;  // y of outputs()
  float* dv;           // (rows, p), or where the caller says, in rows of dv_stride
  int64_t dv_stride;
  float *dw, *down, *slopes;  // (tokens): of w, of own beyond w, of log α
  float dskip;                // of D
  Fetch ahead;                // the caller's: fetched with the products of advance() and gradients()

  // Of more there are more pairs, of fewer a state is read and written more often.
  static constexpr int64_t kChunkRows = 32;
  // As many tokens as have the rows of a chunk: a power of two, so that chunks begin where states are kept.
  static int64_t tokens_of_chunk(const Sizes& z) {
    return int64_t(std::bit_floor(uint64_t(std::max<int64_t>(1, kChunkRows / z.rank))));
  }
  // Of a chunk, with room for whole tiles.
  static int64_t row_count(const Sizes& z) { return padded(tokens_of_chunk(z) * z.rank) + 16; }
  // A state is kept as (p, n), in panels of two vectors of n.
  static int64_t panel_rows(const Sizes& z) { return tile_rows(z.headdim); }
  static int64_t state_floats(const Sizes& z) { return panels_floats(panel_rows(z), z.d_state); }
  // Where the vector of n from `channel` on stands in the row `p`.
  float* at(float* S, int64_t p, int64_t channel) const {
    return S + channel / kPanel * panel_floats(panel_rows(z_)) + p * kPanel + channel % kPanel;
  }
  const float* at(const float* S, int64_t p, int64_t channel) const { return at(const_cast<float*>(S), p, channel); }

  ChunkProducts(const Sizes& z, Arena& arena)
      : z_(z), tokens_(tokens_of_chunk(z)), width_(padded(tokens_ * z.rank)), rank_(z.rank) {
    const auto take = [&](int64_t floats) {
      float* from = arena.take(floats);
      clear(from, floats);  // what lies behind the rows is multiplied, if not used
      return from;
    };
    const int64_t rows = row_count(z);
    for (float** each : {&c, &dk, &dc}) *each = take(rows * z.n);
    for (float** each : {&u, &own_dv_, &y, &scaled_}) *each = take(rows * z.p);
    for (float** each : {&E_, &F_, &PE_, &PF_}) *each = take(rows * width_);
    for (float** each : {&dw, &down, &slopes}) *each = take(padded(tokens_));
    for (float** each : {&from_start_, &to_end_, &at_end_, &weights_, &dw_, &sums_, &behind_}) *each = take(rows);
    between_ = take(tokens_ * width_), Q_ = take(tokens_ * width_), lanes_ = take(rows * kLanes);
    kT_ = take(tile_rows(z.d_state) * width_), vT_ = take(tile_rows(z.headdim) * width_);
    dvT_ = take(tile_rows(z.headdim) * width_);
    turned_ = take(tile_rows(z.d_state) * z.p);
    own_ = take(2 * width_ + kLanes) + width_, before_ = take(2 * width_ + kLanes) + width_;
    for (int64_t r = 0; r < rank_; ++r) own_[r] = 1;
    for (int64_t i = -width_; i < 0; ++i) before_[i] = 1;
  }
  static int64_t floats(const Sizes& z) {
    const int64_t tokens = tokens_of_chunk(z), width = padded(tokens * z.rank), rows = row_count(z);
    return rows * (3 * z.n + 4 * z.p + 4 * width + 7 + kLanes) + 3 * padded(tokens) + 2 * tokens * width +
           (tile_rows(z.d_state) + 2 * tile_rows(z.headdim)) * width + tile_rows(z.d_state) * z.p +
           2 * (2 * width + kLanes) + 40 * 16;
  }

  // The decays of n tokens, whose k and v are there.
  void decay(const Steps& steps, int64_t n) {
    float total = 1;
    for (int64_t t = 0; t < n; ++t) {
      total *= steps.alpha[t];
      for (int64_t r = 0; r < rank_; ++r) {
        from_start_[t * rank_ + r] = total;
        weights_[t * rank_ + r] = steps.own[t] + steps.carried[t + 1];
      }
    }
    total_ = total;
    for (int64_t s = 0; s < width_; s += kLanes) {
      F row = zero();
      for (int64_t t = 0; t < n; ++t) {
        row = set(steps.alpha[t]) * row;
        store(between_ + t * width_ + s, row);
        row = row + load(own_ + s - t * rank_);
      }
      store(to_end_ + s, row);
      store(at_end_ + s, row * load(weights_ + s));
    }
  }

  // S behind the chunk from that before it.
  [[gnu::noinline, gnu::flatten]] void advance(int64_t n, const float* S, float* next) {
    const int64_t rows = n * rank_;
    for (int64_t i = 0; i < rows; ++i) scale_row(v, at_end_[i], i);
    Fetch fetch = std::exchange(ahead, Fetch());
    each_panel(next, panel_rows(z_), z_.d_state, [&]<int N>(int64_t column, float* panel) {
      const float* from = S + (panel - next);
      each_tile_of_panel<N>(z_.headdim, [&](auto place) {
        Tile tile(place);
        tile.read(from, kPanel);
        tile.scale(total_);
        tile.add(rows, {scaled_, 1, z_.p}, k + column, z_.n, [&] { fetch.line(); });
        tile.write(panel, kPanel);
      });
    });
    fetch.rest();
  }

  void clear_state(float* S) const { clear(S, state_floats(z_)); }

  void give_dv(float* to, int64_t stride) { dv = to, dv_stride = stride; }
  void give_dv() { give_dv(own_dv_, z_.p); }

  // What does not depend on u: E and P E, D added.
  [[gnu::noinline, gnu::flatten]] void begin(const Steps& steps, int64_t n, float skip) {
    const int64_t rows = n * rank_;
    transpose_block(k, z_.n, rows, z_.d_state, kT_, width_);
    lower_products(rows, z_.d_state, c, z_.n, kT_, E_);
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t t = row / rank_;
      for (int64_t j = 0; j < (t + 1) * rank_; j += kLanes)
        store(PE_ + row * width_ + j, weight(steps, t, j) * load(E_ + row * width_ + j));
      PE_[row * (width_ + 1)] += skip;
    }
  }

  // y, from the state before the chunk; after begin().
  [[gnu::noinline, gnu::flatten]] void outputs(int64_t n, const float* S) {
    const int64_t rows = n * rank_;
    turn(S);
    each_tile(rows, z_.headdim, [&](auto place) {
      Tile tile(place);
      tile.add(z_.d_state, {c, z_.n, 1}, turned_, z_.p);
      tile.scale_rows(from_start_);
      add_lower_rows(tile, {PE_, width_, 1}, v, z_.p);
      tile.write(y, z_.p);
    });
  }

  // All gradients; G becomes that of the state before the chunk, which is S. After begin().
  [[gnu::noinline, gnu::flatten]] void gradients(const Steps& steps, int64_t n, const float* S, float* G) {
    const int64_t rows = n * rank_;
    transpose_block(v, z_.p, rows, z_.headdim, vT_, width_);
    lower_products(rows, z_.headdim, u, z_.p, vT_, F_);
    pairs(steps, n);

    Fetch fetch = std::exchange(ahead, Fetch());
    // G k turned, as tokens are fewer than rows of G.
    each_tile(z_.headdim, rows, [&](auto place) {
      Tile tile(place);
      for (int64_t n = 0; n < z_.d_state; n += kPanel)
        tile.add(std::min(kPanel, z_.d_state - n), {at(G, 0, n), kPanel, 1}, kT_ + n * width_, width_,
                 [&] { fetch.line(); });
      tile.write(dvT_, width_);
    });
    transpose_block(dvT_, width_, z_.headdim, rows, own_dv_, z_.p);
    each_tile(rows, z_.headdim, [&](auto place) {
      Tile tile(place);
      tile.read(own_dv_, z_.p);
      add_dots(tile, v, z_.p, tile.column == 0);
      tile.scale_rows(at_end_);
      add_upper_rows(tile, rows, {PE_, 1, width_}, u, z_.p);
      tile.write(dv, dv_stride);
    });
    sum_lanes(rows, sums_);
    float earlier = 0;
    for (int64_t t = 0; t < n; ++t) {
      const float written = to_end_[t * rank_] * of_token(sums_, t);
      slopes[t] += earlier, earlier += weights_[t * rank_] * written;
      dw[t] = of_token(dw_, t) + written;
    }
    for (int64_t i = 0; i < rows; ++i) scale_row(v, at_end_[i], i);
    each_panel(G, panel_rows(z_), z_.d_state, [&]<int N>(int64_t column, const float* panel) {
      each_tile_of_panel<N>(rows, [&](auto place) {
        Tile tile(place);
        tile.add(z_.headdim, {scaled_, z_.p, 1}, panel, kPanel, [&] { fetch.line(); });
        add_upper_rows(tile, rows, {PF_, 1, width_}, c + column, z_.n);
        tile.write(dk + column, z_.n);
      });
    });
    for (int64_t i = 0; i < rows; ++i) scale_row(u, from_start_[i], i);
    each_panel(const_cast<float*>(S), panel_rows(z_), z_.d_state, [&]<int N>(int64_t column, const float* panel) {
      each_tile_of_panel<N>(rows, [&](auto place) {
        Tile tile(place);
        tile.add(z_.headdim, {scaled_, z_.p, 1}, panel, kPanel, [&] { fetch.line(); });
        add_dots(tile, c + column, z_.n, column == 0);
        add_lower_rows(tile, {PF_, width_, 1}, k + column, z_.n);
        tile.write(dc + column, z_.n);
      });
    });
    sum_lanes(rows, sums_);
    float later = 0;
    for (int64_t t = n - 1; t >= 0; --t) slopes[t] += later += of_token(sums_, t);
    F through[] = {zero(), zero()};
    each_panel(G, panel_rows(z_), z_.d_state, [&]<int N>(int64_t column, float* panel) {
      const float* before = S + (panel - G);
      each_tile_of_panel<N>(z_.headdim, [&](auto place) {
        Tile tile(place);
        tile.read(panel, kPanel);
        tile.each([&](int i, int j, F& x) {
          if (i < tile.rows) through[j] = fma(load(tile.place(before, i, j, kPanel)), x, through[j]);
        });
        tile.scale(total_);
        tile.add(rows, {scaled_, 1, z_.p}, c + column, z_.n);
        tile.write(panel, kPanel);
      });
    });
    fetch.rest();
    const float passed = total_ * sum(through[0] + through[1]);
    for (int64_t t = 0; t < n; ++t) slopes[t] += passed;
  }

 private:
  // P of the rows of token t, from column j on.
  F weight(const Steps& steps, int64_t t, int64_t j) const {
    return fma(load(between_ + t * width_ + j), load(weights_ + j), set(steps.own[t]) * load(own_ + j - t * rank_));
  }
  void scale_row(const float* from, float factor, int64_t i) const {
    for (int64_t p = 0; p < z_.p; p += kLanes) store(scaled_ + i * z_.p + p, set(factor) * load(from + i * z_.p + p));
  }
  // turned (n, p) = the transpose of a state.
  void turn(const float* S) const {
    for (int64_t n = 0; n < z_.d_state; n += kLanes)
      transpose_block(at(S, 0, n), kPanel, z_.headdim, kLanes, turned_ + n * z_.p, z_.p);
  }

  // to (i, j) = a_i·b_j for the rows j up to the last of i's token; bT (depth, rows).
  [[gnu::always_inline]] void lower_products(int64_t rows, int64_t depth, const float* a, int64_t a_stride,
                                             const float* bT, float* to) const {
    for (int64_t row = 0; row < rows; row += kRows) {
      const int64_t count = std::min<int64_t>(kRows, rows - row), seen = ((row + count - 1) / rank_ + 1) * rank_;
      each_tile_of_row(row, int(count), seen, [&](auto place) {
        Tile tile(place);
        tile.add(depth, {a, a_stride, 1}, bT, width_);
        tile.write(to, width_);
      });
    }
  }

  // P F, and what pairs of tokens give: slopes, dw_, down and dskip.
  void pairs(const Steps& steps, int64_t n) {
    clear(dw_, width_);
    dskip = 0;
    for (int64_t t = 0; t < n; ++t) {
      F inside = zero();
      for (int64_t j = 0; j < (t + 1) * rank_; j += kLanes) {
        const F decay = load(between_ + t * width_ + j), here = load(own_ + j - t * rank_), P = weight(steps, t, j);
        F both = zero();
        for (int64_t at = t * rank_ * width_ + j, end = at + rank_ * width_; at < end; at += width_) {
          const F f = load(F_ + at);
          store(PF_ + at, P * f);
          both = fma(load(E_ + at), f, both);
        }
        // What stands behind the token's rows may be anything.
        const F read = select(less(zero(), decay), decay * both, zero());
        inside = inside + select(less(zero(), here), both, zero());
        store(Q_ + t * width_ + j, load(weights_ + j) * read);
        store(dw_ + j, load(dw_ + j) + read);
      }
      store(lanes_ + t * kLanes, inside);
      for (int64_t row = t * rank_; row < (t + 1) * rank_; ++row) dskip += F_[row * (width_ + 1)];
    }
    sum_lanes(n, down);

    clear(behind_, width_);  // Σ over t ≥ τ
    for (int64_t t = n - 1; t >= 0; --t) {
      F total = zero();
      for (int64_t j = 0; j < t * rank_; j += kLanes) {
        const F w = load(behind_ + j) + load(Q_ + t * width_ + j);
        store(behind_ + j, w);
        total = total + select(less(zero(), load(before_ + j - t * rank_)), w, zero());
      }
      store(lanes_ + t * kLanes, total);
    }
    sum_lanes(n, slopes);
  }

  // to = the sums of n rows of lanes_.
  void sum_lanes(int64_t n, float* to) const {
    for (int64_t i = 0; i < n; i += kLanes) {
      F rows[kLanes];
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; ++l) rows[l] = load(lanes_ + (i + l) * kLanes);
      store(to + i, sums(rows));
    }
  }
  // The products of a tile's rows with those of `rows`, into lanes_.
  template <class T>
  [[gnu::always_inline]] void add_dots(T& tile, const float* rows, int64_t stride, bool first) const {
    constexpr int kVectors = int(sizeof(tile.v[0]) / sizeof(F));
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      float* to = lanes_ + (tile.row + i) * kLanes;
      F total = first ? zero() : load(to);
#pragma GCC unroll 2
      for (int j = 0; j < kVectors; ++j) total = fma(tile.v[i][j], load(tile.place(rows, i, j, stride)), total);
      store(to, total);
    }
  }
  float of_token(const float* rows, int64_t t) const {
    float total = 0;
    for (int64_t r = 0; r < rank_; ++r) total += rows[t * rank_ + r];
    return total;
  }

  // Sums over rows up to the last of a row's token (L), or from its first one on (U).
  template <class T>
  [[gnu::always_inline]] void add_lower_rows(T& tile, Strided L, const float* b, int64_t stride) const {
    if (rank_ == 1)
      tile.add_lower(L, b, stride);
    else if (rank_ == 2)
      tile.template add_lower<0, 2>(L, b, stride);
    else if (rank_ == 4 && kRows % 4 == 0)
      tile.template add_lower<0, 4>(L, b, stride);
    else
      tile.add_lower_blocks(rank_, L, b, stride);
  }
  template <class T>
  [[gnu::always_inline]] void add_upper_rows(T& tile, int64_t rows, Strided U, const float* b, int64_t stride) const {
    if (rank_ == 1)
      add_upper(tile, rows, U, b, stride);
    else if (rank_ == 2)
      add_upper_blocks<2>(tile, rank_, rows, U, b, stride);
    else if (rank_ == 4 && kRows % 4 == 0)
      add_upper_blocks<4>(tile, rank_, rows, U, b, stride);
    else
      add_upper_blocks<0>(tile, rank_, rows, U, b, stride);
  }

  const Sizes& z_;
  const int64_t tokens_, width_, rank_;
  float total_ = 1;                                   // D_n
  float *from_start_, *to_end_, *at_end_, *weights_;  // (rows): D_t, D_ns, D_ns w_s, w_s
  float *dw_, *sums_, *behind_;                       // (rows)
  float *between_, *Q_;                               // (tokens, width): D_ts, w_s Q_ts
  float *E_, *F_, *PE_, *PF_;                         // (rows, width)
  float *kT_, *vT_, *dvT_, *turned_;                  // (n, width), (p, width) twice, (n, p)
  float *own_dv_, *scaled_, *lanes_;                  // (rows, p) twice, (rows, lanes)
  float *own_, *before_;  // from -t·rank on: ones at the rows of token t, and at those before it, of zeros
};

}  // namespace statespace::STATESPACE_ISA::mamba3
