#pragma once
// The gradient of the recurrences with a decay a token and key (RWKV-6 and 7, Kimi delta attention), in chunks of
// matrix products, S (key, value):
//   x_t = S_{t-1}ᵀ a_t,   S_t = diag(d_t) S_{t-1} + b_t x_tᵀ + k_t v_tᵀ,   y_t = S_{t-1}ᵀ r_t + p_t x_t + o_t v_t
// where r may hold its own token's decay, and p and o, the weights of a token's own values, are numbers.
//   RWKV-6: no a and b; r, o = r·(u ∘ k).   RWKV-7: d r, p = r·b, o = r·k.
//   Kimi: k and v not written but v added to x: x_t = v_t + S_{t-1}ᵀ a_t with a = -d k, b = β k, r = d q, p = q·b.
// Inside a chunk, with S at its start, G the gradient of the state at its end, D_ts = d_{t-1} ∘ … ∘ d_{s+1} and weights
// such as AB_ts = a_t·(D_ts ∘ b_s) for s < t, PB and PK with p and o on their diagonals:
//   X = (D a) S + AB X + AK V,   dX = (D b) G + PBᵀ dY + ABᵀ dX,   dV = (D k) G + PKᵀ dY + AKᵀ dX
//   G_0 = D G + (D a)ᵀ dX + (D r)ᵀ dY,   weights: dAB = dX Xᵀ, dAK = dX Vᵀ, dPB = dY Xᵀ, dPK = dY Vᵀ
// and da, dr, db, dk are sums over those weights and products with S and G. The slope in a token's log decay is the sum
// over all that it decays: differences of sums over all pairs would leave rounding where the decay is strong.
#include <algorithm>
#include <cstring>
#include <utility>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/decay_gradient.h"
#include "kernels/decayed_pairs.h"
#include "kernels/grouped_pairs.h"
#include "kernels/head_state.h"
#include "kernels/product.h"
#include "ops/kept_states.h"

namespace statespace::STATESPACE_ISA {

// One head of one sequence. What an op reads and writes of a chunk's tokens are rows of these.
class KeyDecayGradient {
 public:
  static constexpr int64_t kRowCount = kLagged;
  const int64_t keys, values, width, stride;
  const bool solves, writes;  // whether there are a and b; whether k vᵀ is written
  float *d, *r, *a, *b, *k;   // (chunk, key): the op's, zeros behind the keys
  float *v, *dy;              // (chunk, value): the op's, zeros behind the values
  float *x_own, *v_own;       // (chunk): the op's p and o
  float *dr, *da, *db, *dk,
      *slope;              // (chunk, key), slope in log d: not of what p and o are made of and the decays in r and a
  float* dv;               // (chunk, value), of what is added to x where v is not written
  float *dx_own, *dv_own;  // (chunk)

  KeyDecayGradient(int64_t keys, int64_t values, bool solves, bool writes, int64_t tokens, bool kept, float* memory,
                   bool known = false)
      : keys(keys),
        values(values),
        width(padded(keys)),
        stride(state_stride(values)),
        solves(solves),
        writes(writes),
        size_(tile_rows(keys) * stride),
        kept_(kept),
        known_(known),
        segment_(segment(keys, values, kept)) {
    float* next = memory;
    auto take = [&](int64_t n) {
      float* from = next;
      next += ceil_div(n, 16) * 16 + kApart;
      return from;
    };
    for (float** rows : {&d, &r, &a, &b, &k, &dr, &da, &db, &dk, &slope, &r_start_, &a_start_, &b_end_, &k_end_,
                         &r_grouped_, &a_grouped_, &b_grouped_, &k_grouped_})
      *rows = take(kRowCount * width);
    for (float** rows : {&v, &dy, &dx_}) *rows = take(kRowCount * stride);
    dv = writes ? take(kRowCount * stride) : dx_;
    for (float** square : {&ab_, &ak_, &pb_, &pk_, &of_x_, &of_y_}) *square = take(kRowCount * kLagged);
    for (float** vector : {&x_own, &v_own, &dx_own, &dv_own}) *vector = take(kRowCount);
    both_ = take(tile_rows(values) * kLagged), seen_ = take(tile_rows(values) * kLagged);
    of_start_ = take(tile_rows(keys) * kLagged), of_end_ = take(tile_rows(keys) * kLagged);
    lanes_ = take(width * kLanes), total_ = take(kGroups * width);
    through_ = take(width + kLanes), decay_ = take(width + kLanes + kRows);
    G_ = take(size_);
    std::memset(memory, 0, (next - memory) * sizeof(float));
    X_ = take((kept ? segment_ : chunks(tokens)) * whole_tiles(kChunk) * stride);
    slots_ = take((segment_ - 1) * size_);
    states_ = next;
  }
  static int64_t floats(int64_t keys, int64_t values, int64_t tokens, bool kept) {
    const int64_t width = padded(keys), stride = state_stride(values), held = segment(keys, values, kept);
    const int64_t segments = kept ? 2 : ceil_div(chunks(tokens), held);
    return kRowCount * (18 * width + 4 * stride + 6 * kLagged + 4) +
           2 * (tile_rows(values) + tile_rows(keys)) * kLagged + width * (kLanes + kGroups + 2) +
           (segments + held) * tile_rows(keys) * stride +
           (kept ? held : chunks(tokens)) * whole_tiles(kChunk) * stride + 2048 + 64 * kApart;
  }

  // The state at the start and the gradient of that at the end, (key, stride): zeros until the caller gives them.
  float* first_state() {
    std::memset(states_, 0, size_ * sizeof(float));
    return states_;
  }
  float* gradient() const { return G_; }

  // read(t, n, true): d, a, b, k, v of n tokens; r, x_own, v_own and dy as well where it is false. ahead(t, n, inputs,
  // back): a Fetch of what is read of them, forward and back, and will be written. write(t, n): takes results.
  // restore(t, S): the state before token t that the forward kept. know(t, n, X): where x is known, its rows; of a and
  // v nothing is read then for a forward pass.
  template <class Read, class Next, class Write, class Restore>
  void run(Context& cx, int64_t begin, int64_t end, Read&& read, Next&& ahead, Write&& write, Restore&& restore) {
    run(cx, begin, end, read, ahead, write, restore, [](int64_t, int64_t, float*) {});
  }
  template <class Read, class Next, class Write, class Restore, class Know>
  void run(Context& cx, int64_t begin, int64_t end, Read&& read, Next&& ahead, Write&& write, Restore&& restore,
           Know&& know) {
    const int64_t count = ceil_div(end - begin, kChunk), segments = ceil_div(count, segment_);
    const auto first = [&](int64_t c) { return begin + c * kChunk; };
    const auto tokens = [&](int64_t c) { return std::min(kChunk, end - first(c)); };
    for (int64_t c = 0; !kept_ && c < count; ++c) {
      if (c % 16 == 0) cx.check_stop();
      const int64_t n = tokens(c);
      read(first(c), n, c + 1 < count);
      if (c + 1 < count) ahead_ = ahead(first(c + 1), tokens(c + 1), true, false);
      known_&& c + 1 < count ? decay_to_ends(n) : prepare(n);
      // Inside all but the last segment only the state at hand is kept.
      const bool passing = c / segment_ + 1 < segments;
      const float* S = passing && c % segment_ ? slots_ : state(c);
      if (known_)
        know(first(c), n, X(c));
      else if (solves)
        solve(n, S, X(c));
      if (c + 1 < count) advance(n, S, X(c), passing && (c + 1) % segment_ ? slots_ : state(c + 1));
    }
    for (int64_t s = segments - 1; s >= 0; --s) {
      cx.check_stop();
      const int64_t from = s * segment_, last = std::min(count, from + segment_) - 1;
      if (kept_ && s > 0) restore(first(from), state(from));
      for (int64_t c = from; kept_ && c <= last; ++c) {
        read(first(c), tokens(c), c < last);
        if (c < last) ahead_ = ahead(first(c + 1), tokens(c + 1), true, c + 1 == last);
        known_&& c < last ? decay_to_ends(tokens(c)) : prepare(tokens(c));
        if (known_)
          know(first(c), tokens(c), X(c));
        else if (solves)
          solve(tokens(c), state(c), X(c));
        if (c < last) advance(tokens(c), state(c), X(c), state(c + 1));
      }
      for (int64_t c = from; !kept_ && s + 1 < segments && c < last; ++c) {
        read(first(c), kChunk, true);
        decay_to_ends(kChunk);
        advance(kChunk, state(c), X(c), state(c + 1));
      }
      for (int64_t c = last; c >= from; --c) {
        const int64_t n = tokens(c);
        const bool there = c + 1 == count || (kept_ && c == last);  // what the last chunk read
        if (!there) read(first(c), n, false);
        if (kept_ && c == from && s > 0)
          ahead_ = ahead(first(from - segment_), kChunk, true, false);
        else if (c > 0)
          ahead_ = ahead(first(c - 1), kChunk, !kept_, true);  // a segment's inputs have just been here
        if (!there) prepare(n);
        backward(n, state(c), X(c));
        write(first(c), n);
      }
    }
  }

 private:
  // Chunks whose states are held at once, in the second-level cache: those of a whole sequence would go to memory and
  // back, which takes longer than to make them again from one state a segment.
  static int64_t segment(int64_t keys, int64_t values, bool kept) {
    if (kept) return kept_states::kEvery / kChunk;
    constexpr int64_t kCached = 1 << 17;  // floats
    return std::clamp<int64_t>(kCached / (tile_rows(keys) * state_stride(values)), 2, 16);
  }
  // Between arrays, that rows of one token do not lie a multiple of 4 KB apart: a load waits for such a store before
  // it.
  static constexpr int64_t kApart = 48;
  // Rows of a state a power of two apart would fall on few sets of the first-level cache.
  static int64_t state_stride(int64_t values) { return padded(values) + (padded(values) % 64 == 0 ? 16 : 0); }
  static int64_t chunks(int64_t tokens) { return ceil_div(std::max<int64_t>(tokens, 1), kChunk); }
  // At a chunk's start: kept for the first of each segment, for the others while their segment is at work.
  float* state(int64_t chunk) const {
    const int64_t place = chunk % segment_, segment = chunk / segment_;
    if (place) return slots_ + (place - 1) * size_;
    return states_ + (kept_ ? std::min<int64_t>(segment, 1) : segment) * size_;
  }
  float* X(int64_t chunk) const { return X_ + (kept_ ? chunk % segment_ : chunk) * whole_tiles(kChunk) * stride; }
  // Where the weights of x and of v stand in the rows of both_, of_x_ and of_y_.
  int64_t place_of_v() const { return solves ? kChunk : 0; }

  void prepare(int64_t n) {
    if (n < kChunk) fill_rows(n);
    if (writes) decay_to_groups(k, k_grouped_, d, width, total_);
    if (solves) {
      decay_from_groups(a, a_grouped_, d, width);
      decay_to_groups(b, b_grouped_, d, width, total_);
      grouped_pairs(a, b, a_grouped_, b_grouped_, d, total_, width, ab_);
      if (writes) grouped_pairs(a, k, a_grouped_, k_grouped_, d, total_, width, ak_);
    }
    decay_to_ends(n);
  }
  void decay_to_ends(int64_t n) {
    if (solves) {
      decay_from_start(a, a_start_, d, n, width, decay_);
      decay_to_end(b, b_end_, d, n, width);
    }
    if (writes) decay_to_end(k, k_end_, d, n, width);
    if (!solves) decay_from_start(r, r_start_, d, n, width, decay_);
  }

  [[gnu::noinline, gnu::flatten]] void solve(int64_t n, const float* S, float* X) {
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      if (!writes) tile.read(v, stride);
      tile.add(keys, {a_start_, width, 1}, S, stride);
      if (writes) tile.template add_lower<1>({ak_, 1, kLagged}, v, stride);
      tile.solve_unit_lower({ab_, 1, kLagged}, X, stride);
      tile.write(X, stride);
    });
  }

  [[gnu::noinline, gnu::flatten]] void advance(int64_t n, const float* S, const float* X, float* next) {
    std::memset(next + keys * stride, 0, (size_ - keys * stride) * sizeof(float));
    Fetch fetch = std::exchange(ahead_, Fetch());
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale_rows(decay_);
      if (solves) tile.add(n, {b_end_, 1, width}, X, stride, [&] { fetch.line(); });
      if (writes) tile.add(n, {k_end_, 1, width}, v, stride, [&] { fetch.line(); });
      tile.write(next, stride);
    });
    fetch.rest();
  }

  [[gnu::noinline, gnu::flatten]] void backward(int64_t n, const float* S, const float* X) {
    decay_from_groups(r, r_grouped_, d, width);
    if (solves) {
      grouped_pairs(r, b, r_grouped_, b_grouped_, d, total_, width, pb_);
      decay_from_start(r, r_start_, d, n, width, decay_);
      for (int64_t t = 0; t < n; ++t) pb_[t * kLagged + t] = x_own[t];
      changes(n);
    }
    if (writes) {
      grouped_pairs(r, k, r_grouped_, k_grouped_, d, total_, width, pk_);
      for (int64_t t = 0; t < n; ++t) pk_[t * kLagged + t] = v_own[t];
      each_tile(n, values, [&](auto place) {
        Tile tile(place);
        tile.add(keys, {k_end_, width, 1}, G_, stride);
        add_upper(tile, n, {pk_, kLagged, 1}, dy, stride);
        if (solves) add_upper<1>(tile, n, {ak_, kLagged, 1}, dx_, stride);
        tile.write(dv, stride);
      });
    }
    weights(n, X);
    at_ends(n, S);
    if (n < kChunk) fill_gradients(n);
    const PairReads by_r{r, r_grouped_, of_y_, dr}, by_a{a, a_grouped_, of_x_, da};
    const PairWrites by_b{b, b_grouped_, db}, by_k{k, k_grouped_, dk};
    if (!solves)
      add_pairs<1, 1>({by_r}, {by_k});
    else if (writes)
      add_pairs<2, 2>({by_r, by_a}, {by_b, by_k});
    else
      add_pairs<2, 1>({by_r, by_a}, {by_b});
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(G_, stride);
      tile.scale_rows(decay_);
      tile.add(n, {r_start_, 1, width}, dy, stride);
      if (solves) tile.add(n, {a_start_, 1, width}, dx_, stride);
      tile.write(G_, stride);
    });
  }

  template <int kReads, int kWrites>
  void add_pairs(const PairReads (&reads)[kReads], const PairWrites (&writes)[kWrites]) const {
    GroupedPairs<kReads, kWrites> pairs{width, d, total_, through_, slope, {}, {}};
    std::copy_n(reads, kReads, pairs.reads), std::copy_n(writes, kWrites, pairs.writes);
    for (int64_t i = 0; i < width; i += kLanes) pairs.add(i);
  }
  // Behind n tokens come such as decay, read and write nothing, and what they get.
  void fill_rows(int64_t n) const {
    for (float* rows : {r, a, b, k}) clear(rows + n * width, (kChunk - n) * width);
    std::fill_n(d + n * width, (kChunk - n) * width, 1.0f);
  }
  void fill_gradients(int64_t n) const {
    for (float* rows : {dr, da, db, dk}) clear(rows + n * width, (kChunk - n) * width);
    for (float* weights : {of_y_, of_x_})
      for (int64_t t = 0; t < kChunk; ++t)
        for (int64_t first : {int64_t(0), kChunk})
          clear(weights + t * kLagged + first + (t < n ? n : 0), t < n ? kChunk - n : kChunk);
  }

  // dX, from the last token to the first.
  [[gnu::noinline, gnu::flatten]] void changes(int64_t n) {
    for (int64_t row = (n - 1) / kRows * kRows; row >= 0; row -= kRows)
      each_tile_of_row(row, int(std::min<int64_t>(kRows, n - row)), values, [&](auto place) {
        Tile tile(place);
        tile.add(keys, {b_end_, width, 1}, G_, stride);
        add_upper(tile, n, {pb_, kLagged, 1}, dy, stride);
        const int64_t after = row + kRows;
        tile.add(n - after, {ab_ + after, kLagged, 1}, dx_ + after * stride, stride);
        const float* block = ab_ + row * kLagged + row;
        auto& x = tile.v;
        constexpr int kVectors = int(sizeof(x[0]) / sizeof(F));
#pragma GCC unroll 8
        for (int t = kRows - 1; t > 0; --t) {
          if (t >= tile.rows) continue;
#pragma GCC unroll 8
          for (int s = 0; s < t; ++s)
#pragma GCC unroll 2
            for (int j = 0; j < kVectors; ++j) x[s][j] = fma(set(block[s * kLagged + t]), x[t][j], x[s][j]);
        }
        tile.write(dx_, stride);
      });
  }

  // What the weights of pairs get: (t, s), of x and of v beside each other.
  [[gnu::noinline, gnu::flatten]] void weights(int64_t n, const float* X) {
    if (solves) transpose_block(X, stride, n, values, both_, kLagged);
    if (writes) transpose_block(v, stride, n, values, both_ + place_of_v(), kLagged);
    const int64_t columns = solves && writes ? kLagged : kChunk;
    each_tile(n, columns, [&](auto place) {
      Tile tile(place);
      tile.add(values, {dy, stride, 1}, both_, kLagged);
      tile.write(of_y_, kLagged);
    });
    for (int64_t t = 0; t < n; ++t) {
      if (solves) dx_own[t] = of_y_[t * kLagged + t];
      if (writes) dv_own[t] = of_y_[t * kLagged + place_of_v() + t];
    }
    if (!solves) return;
    each_tile(n, columns, [&](auto place) {
      Tile tile(place);
      tile.add(values, {dx_, stride, 1}, both_, kLagged);
      tile.write(of_x_, kLagged);
    });
  }

  // The gradients of what is decayed from the start and to the end, before their decays, and what passes the chunk. A
  // state's rows are multiplied with rows of tokens, turned: those are fewer than its own.
  [[gnu::noinline, gnu::flatten]] void at_ends(int64_t n, const float* S) {
    transpose_block(dy, stride, n, values, seen_, kLagged);
    if (solves) transpose_block(dx_, stride, n, values, seen_ + kChunk, kLagged);
    const int64_t read = solves ? kLagged : kChunk, written = solves && writes ? kLagged : kChunk;
    Fetch fetch = std::exchange(ahead_, Fetch());
    for (int64_t row = 0; row < keys; row += kRows) {
      const int rows = int(std::min<int64_t>(kRows, keys - row));
      each_tile_of_row(row, rows, read, [&](auto place) {
        Tile tile(place);
        tile.add(values, {S, stride, 1}, seen_, kLagged, [&] { fetch.line(); });
        tile.write(of_start_, kLagged);
      });
      each_tile_of_row(row, rows, written, [&](auto place) {
        Tile tile(place);
        tile.add(values, {G_, stride, 1}, both_, kLagged);
        tile.write(of_end_, kLagged);
      });
      for (int64_t i = row; i < row + rows; ++i) {
        F total = zero();
        for (int64_t c = 0; c < padded(values); c += kLanes)
          total = fma(load(S + i * stride + c), load(G_ + i * stride + c), total);
        store(lanes_ + i * kLanes, total);
      }
    }
    fetch.rest();
    transpose_block(of_start_, kLagged, keys, n, dr, width);
    if (solves) transpose_block(of_start_ + kChunk, kLagged, keys, n, da, width);
    if (solves) transpose_block(of_end_, kLagged, keys, n, db, width);
    if (writes) transpose_block(of_end_ + place_of_v(), kLagged, keys, n, dk, width);
    for (int64_t i = 0; i < width; i += kLanes) {
      F rows[kLanes];
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; ++l) rows[l] = load(lanes_ + (i + l) * kLanes);
      store(through_ + i, sums(rows) * load(decay_ + i));
    }
  }

  const int64_t size_;
  const bool kept_;   // the forward kept the states at segments' starts
  const bool known_;  // and x
  const int64_t segment_;
  float *r_start_, *a_start_, *b_end_, *k_end_;  // (chunk, key): decayed from the chunk's start or to its end
  float *r_grouped_, *a_grouped_, *b_grouped_, *k_grouped_, *total_;  // the same of groups, and their decays
  float* dx_;                                                         // (chunk, value)
  float *ab_, *ak_, *pb_, *pk_;                                       // (s, t ≥ s): the weights
  float *of_x_, *of_y_;                                               // (t, s): what those of dX and dY get
  float *both_, *seen_;               // (value, kLagged): Xᵀ and Vᵀ, dYᵀ and dXᵀ
  float *of_start_, *of_end_;         // (key, kLagged): S dYᵀ and S dXᵀ, G Xᵀ and G Vᵀ
  float *lanes_, *through_, *decay_;  // (key): d L / d log of the whole chunk's decay, and that decay
  float *G_, *X_;
  Fetch ahead_;
  float *slots_, *states_;  // of the segment at work without its first, and the first of every segment
};

}  // namespace statespace::STATESPACE_ISA
