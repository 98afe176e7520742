#pragma once
// The gradient of the gated delta rule with one decay a token and head, in chunks of matrix products. With S the state
// (key, value) at a chunk's start, D_ts the product of the decays of tokens s+1 … t, D_t of all up to t, q scaled by
// 1/sqrt(key), L the part below the diagonal and Q the part on it and below:
//   A = L(D ∘ K Kᵀ),   P = Q(D ∘ Q Kᵀ),   X = V - D_t K S - A C,   C = β X,   Y = D_t Q S + P C,
// (X the innovations, which the forward may have kept)
//   S_n = D_n S + Kᵀ D_ns C
// X = (I + A β)⁻¹ (V - D_t K S) and, G the gradient of S_n, Z that of C:
//   Z = (I + β A)⁻ᵀ (Pᵀ dY + D_ns K G),   dV = β Z,   dβ = Z·X,   dA = -β Z Cᵀ,   dP = dY Cᵀ
//   dQ = D_t dY Sᵀ + (D dP) K,   dK = D_ns C Gᵀ - D_t β Z Sᵀ + ((D dA) + (D dA)ᵀ) K + (D dP)ᵀ Q
//   G_0 = D_n G + Qᵀ D_t dY - Kᵀ D_t β Z
// The slope in a token's log decay is the sum over all that it decays, as in decay_gradient.h.
#include <algorithm>
#include <cstring>

#include "isa/math.h"
#include "kernels/decay_gradient.h"
#include "kernels/head_chunk.h"
#include "kernels/kept_rows.h"
#include "kernels/product.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {

// Tokens of a chunk: the triangular solves grow with it, the products with the state shrink.
constexpr int64_t kDeltaTokens = 32;

// One head of one sequence.
class DeltaGradient {
 public:
  static constexpr int64_t kWidth = kDeltaTokens;
  static constexpr int64_t kRowCount = whole_tiles(kDeltaTokens);

  DeltaGradient(const GatedDeltaRuleBackward& op, int64_t tokens, float* memory)
      : op_(op),
        keys_(op.q[2]),
        values_(op.v[2]),
        key_stride_(vector_columns(keys_)),
        stride_(vector_columns(values_)),
        size_(tile_rows(keys_) * stride_),
        scale_(1 / ::sqrtf(float(keys_))) {
    float* next = memory;
    auto take = [&](int64_t n) {
      float* p = next;
      next += ceil_div(n, 16) * 16;
      return p;
    };
    for (float** rows : {&q_, &k_, &dq_, &dk_}) *rows = take(kRowCount * key_stride_);
    for (float** rows : {&dy_, &C_, &Z_, &written_}) *rows = take(kRowCount * stride_);
    for (float** square : {&decay_, &below_, &A_, &P_, &dA_, &dP_, &slope_}) *square = take(kRowCount * kWidth);
    for (float** vector : {&g_, &from_start_, &to_end_, &beta_, &minus_beta_, &at_start_, &at_end_, &running_})
      *vector = take(kRowCount + 2 * kLanes);
    kt_ = take(tile_rows(keys_) * kWidth);
    ct_ = take(tile_rows(values_) * kWidth);
    turned_ = take(tile_rows(values_) * key_stride_);
    lanes_ = take(2 * kRowCount * kLanes);
    work_end_ = next;
    work_ = memory;
    G_ = take(size_);
    X_ = take(held(op, tokens) * kRowCount * stride_);
    states_ = next;
    std::memset(memory, 0, (X_ - memory) * sizeof(float));
  }
  static int64_t floats(const GatedDeltaRuleBackward& op, int64_t tokens) {
    const int64_t keys = vector_columns(op.q[2]), values = vector_columns(op.v[2]);
    const int64_t chunks = held(op, tokens);
    return kRowCount * (4 * keys + 4 * values + 7 * kWidth + 8 + 2 * kLanes) + 16 * kLanes + tile_rows(keys) * kWidth +
           tile_rows(values) * (kWidth + keys) + (chunks + 2) * tile_rows(keys) * values + chunks * kRowCount * values +
           1024;
  }

  // dq and dk (tokens, heads, key): of this head.
  void run(Context& cx, int64_t sequence, int64_t head, int64_t begin, int64_t end, const Tensor& dq, const Tensor& dk,
           int64_t column) {
    const int64_t chunks = ceil_div(end - begin, kDeltaTokens), one = keys_ * values_;
    streamed_ = streams_rows({&dq, &dk, &op_.dv}, {keys_, values_});
    const auto first = [&](int64_t c) { return begin + c * kDeltaTokens; };
    const auto tokens = [&](int64_t c) { return std::min(kDeltaTokens, end - first(c)); };
    auto state_of = [&](const Tensor& t) { return t.row(sequence) + head * one; };
    // Rows of states past the last key are read as well.
    std::memset(states_, 0, size_ * sizeof(float));
    for (int64_t c = 1; c < (op_.kept() ? 2 * kSegment : chunks); ++c)
      std::memset(states_ + c * size_ + keys_ * stride_, 0, (size_ - keys_ * stride_) * sizeof(float));
    if (op_.initial_state) read_rows(state_of(op_.initial_state), keys_, values_, states_, stride_);
    if (op_.dlast_state) read_rows(state_of(op_.dlast_state), keys_, values_, G_, stride_);
    // Chunks [from, to) forward, then back.
    auto segment = [&](int64_t from, int64_t to) {
      for (int64_t c = from; c < to; ++c) {
        cx.check_stop();
        if (op_.innovations && c + 1 < to)
          read_written(first(c), tokens(c), head);
        else
          read(first(c), tokens(c), head);
        if (c + 1 < to) fetch(first(c + 1), tokens(c + 1), head, true, dq, dk, column);
        if (op_.innovations)
          copy_rows(op_.innovations, first(c), tokens(c), head * values_, values_, X(c), stride_);
        else
          solve(first(c), tokens(c), head, state(c), X(c));
        if (c + 1 < to) advance(tokens(c), state(c), X(c), state(c + 1));
      }
      for (int64_t c = to - 1; c >= from; --c) {
        cx.check_stop();
        const int64_t t = first(c), n = tokens(c);
        if (c + 1 < to) read(t, n, head);  // what the last chunk read is there
        if (op_.kept() && c == from && from > 0)
          fetch(first(from - kSegment), kDeltaTokens, head, true, dq, dk, column);
        else if (c > 0)
          fetch(first(c - 1), tokens(c - 1), head, false, dq, dk, column);
        backward(t, n, head, state(c), X(c));
        if (dq) put_rows(dq_, key_stride_, dq, t, n, column, keys_, streamed_);
        if (dk) put_rows(dk_, key_stride_, dk, t, n, column, keys_, streamed_);
        if (streamed_) end_streams();
      }
    };
    if (!op_.kept()) {
      segment(0, chunks);
    } else {
      for (int64_t to = chunks, from; to > 0; to = from) {
        from = (to - 1) / kSegment * kSegment;
        if (from > 0) read_kept(op_.states, first(from), head, keys_, values_, state(from), stride_);
        segment(from, to);
      }
    }
    if (op_.dinitial_state) write_rows(G_, stride_, keys_, values_, state_of(op_.dinitial_state));
  }

 private:
  // Chunks between states that the forward keeps; how many are held at once.
  static constexpr int64_t kSegment = kept_states::kEvery / kDeltaTokens;
  static int64_t held(const GatedDeltaRuleBackward& op, int64_t tokens) {
    return op.kept() ? 2 * kSegment : ceil_div(std::max<int64_t>(tokens, 1), kDeltaTokens);
  }
  // The sequence's first keeps its place.
  float* state(int64_t chunk) const { return states_ + place(chunk) * size_; }
  float* X(int64_t chunk) const { return X_ + place(chunk) * kRowCount * stride_; }
  int64_t place(int64_t chunk) const { return op_.kept() && chunk > 0 ? kSegment + chunk % kSegment : chunk; }

  void fetch(int64_t begin, int64_t n, int64_t head, bool forward, const Tensor& dq, const Tensor& dk,
             int64_t column) const {
    const int64_t at = head / (op_.v[1] / op_.k[1]) * keys_, first = head * values_;
    fetch_rows(op_.q, begin, n, at, keys_), fetch_rows(op_.k, begin, n, at, keys_);
    if (forward) return fetch_rows(op_.innovations ? op_.innovations : op_.v, begin, n, first, values_);
    fetch_rows(op_.dy, begin, n, first, values_);
    if (streamed_) return;
    fetch_rows(op_.dv, begin, n, first, values_);
    fetch_rows(dq, begin, n, column, keys_), fetch_rows(dk, begin, n, column, keys_);
  }

  [[gnu::noinline, gnu::flatten]] void read(int64_t begin, int64_t n, int64_t head) {
    if (n < kDeltaTokens) std::memset(work_, 0, (work_end_ - work_) * sizeof(float));
    const int64_t at = head / (op_.v[1] / op_.k[1]) * keys_;
    copy_rows(op_.q, begin, n, at, keys_, q_, key_stride_);
    copy_rows(op_.k, begin, n, at, keys_, k_, key_stride_);
    scale(q_, scale_, n * key_stride_);
    copy_transposed(op_.k, begin, n, at, keys_, kt_, kWidth);
    read_numbers(begin, n, head);
    // Running products: no difference of large sums is taken, however strong the decay.
    float *row = decay_, *strict = below_;
    for (int64_t t = 0; t < n; ++t, row += kWidth, strict += kWidth) {
      for (int64_t s = 0; s < kWidth; s += kLanes) {
        const F before = t ? set(g_[t]) * load(row - kWidth + s) : zero();
        store(row + s, before), store(strict + s, before);
      }
      row[t] = 1;
      from_start_[t] = t ? g_[t] * from_start_[t - 1] : g_[t];
    }
    for (int64_t s = 0; s < n; ++s) to_end_[s] = decay_[(n - 1) * kWidth + s];
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys_, {k_, key_stride_, 1}, kt_, kWidth);
      tile.times(below_, kWidth);
      tile.write(A_, kWidth);
    });
  }

  // What advance() takes.
  [[gnu::noinline, gnu::flatten]] void read_written(int64_t begin, int64_t n, int64_t head) {
    copy_transposed(op_.k, begin, n, head / (op_.v[1] / op_.k[1]) * keys_, keys_, kt_, kWidth);
    read_numbers(begin, n, head);
    for (int64_t t = 0; t < n; ++t) from_start_[t] = t ? g_[t] * from_start_[t - 1] : g_[t];
    to_end_[n - 1] = 1;
    for (int64_t s = n - 1; s > 0; --s) to_end_[s - 1] = to_end_[s] * g_[s];
  }
  void read_numbers(int64_t begin, int64_t n, int64_t head) {
    for (int64_t t = 0; t < n; ++t) {
      g_[t] = op_.g ? op_.g.row(begin + t)[head] : 0;
      beta_[t] = op_.beta.row(begin + t)[head], minus_beta_[t] = -beta_[t];
    }
    for (int64_t t = 0; t < n; t += kLanes) store(g_ + t, exp(load(g_ + t)));
  }

  // X of a chunk: what its tokens' values are beyond what the state holds for their keys.
  [[gnu::noinline, gnu::flatten]] void solve(int64_t begin, int64_t n, int64_t head, const float* S, float* X) {
    for (int64_t t = 0; t < n; ++t)
      for (int64_t s = 0; s < kWidth; s += kLanes)
        store(slope_ + t * kWidth + s, load(A_ + t * kWidth + s) * load(minus_beta_ + s));
    each_tile(n, values_, [&](auto place) {
      Tile tile(place);
      tile.add(keys_, {k_, key_stride_, 1}, S, stride_);
      tile.scale_rows(from_start_);
      tile.subtract_from(op_.v.row(begin) + head * values_, op_.v.row_stride, values_);
      tile.solve_unit_lower({slope_, kWidth, 1}, X, stride_);
      tile.write(X, stride_);
    });
  }

  [[gnu::noinline, gnu::flatten]] void advance(int64_t n, const float* S, const float* X, float* next) {
    for (int64_t s = 0; s < n; ++s) scaled_row(X, beta_[s] * to_end_[s], s, written_);
    each_tile(keys_, values_, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride_);
      tile.scale(from_start_[n - 1]);
      tile.add(n, {kt_, kWidth, 1}, written_, stride_);
      tile.write(next, stride_);
    });
  }

  [[gnu::noinline, gnu::flatten]] void backward(int64_t begin, int64_t n, int64_t head, const float* S,
                                                const float* X) {
    copy_rows(op_.dy, begin, n, head * values_, values_, dy_, stride_);
    for (int64_t s = 0; s < n; ++s) scaled_row(X, beta_[s], s, C_);
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys_, {q_, key_stride_, 1}, kt_, kWidth);
      tile.times(decay_, kWidth);
      tile.write(P_, kWidth);
    });
    for (int64_t t = 0; t < n; ++t)  // -β A from here on
      for (int64_t s = 0; s < kWidth; s += kLanes)
        store(A_ + t * kWidth + s, load(A_ + t * kWidth + s) * set(minus_beta_[t]));
    changes(n);
    for (int64_t t = 0; t < n; ++t) {
      F slope = zero();
      for (int64_t c = 0; c < stride_; c += kLanes)
        slope = fma(load(Z_ + t * stride_ + c), load(X + t * stride_ + c), slope);
      if (op_.dbeta) op_.dbeta.row(begin + t)[head] = sum(slope);
    }
    pairs(n);
    for (int64_t t = 0; t < n; ++t) scaled_row(Z_, beta_[t], t, Z_);
    if (op_.dv) put_rows(Z_, stride_, op_.dv, begin, n, head * values_, values_, streamed_);
    for (int64_t t = 0; t < n; ++t) {
      scaled_row(Z_, -from_start_[t], t, Z_);
      scaled_row(C_, to_end_[t], t, C_);
      scaled_row(dy_, from_start_[t], t, dy_);
    }
    const float through = from_start_[n - 1] * dot(S, G_, size_);
    keys_and_queries(n, S);
    if (op_.dg) slopes(begin, n, head, through);
    each_tile(keys_, values_, [&](auto place) {
      Tile tile(place);
      tile.read(G_, stride_);
      tile.scale(from_start_[n - 1]);
      tile.add(n, {q_, 1, key_stride_}, dy_, stride_);
      tile.add(n, {kt_, kWidth, 1}, Z_, stride_);
      tile.write(G_, stride_);
    });
  }

  // Z, from the last token to the first.
  void changes(int64_t n) {
    for (int64_t row = (n - 1) / kRows * kRows; row >= 0; row -= kRows)
      each_tile_of_row(row, int(std::min<int64_t>(kRows, n - row)), values_, [&](auto place) {
        Tile tile(place);
        tile.add(keys_, {k_, key_stride_, 1}, G_, stride_);
        tile.scale_rows(to_end_);
        add_upper(tile, n, {P_, 1, kWidth}, dy_, stride_);
        const int64_t after = row + kRows;
        tile.add(n - after, {A_ + after * kWidth, 1, kWidth}, Z_ + after * stride_, stride_);
        const float* block = A_ + row * kWidth + row;
        auto& v = tile.v;
        constexpr int kVectors = int(sizeof(v[0]) / sizeof(F));
#pragma GCC unroll 8
        for (int t = kRows - 1; t > 0; --t) {
          if (t >= tile.rows) continue;
#pragma GCC unroll 8
          for (int s = 0; s < t; ++s)
#pragma GCC unroll 2
            for (int j = 0; j < kVectors; ++j) v[s][j] = fma(set(block[t * kWidth + s]), v[t][j], v[s][j]);
        }
        tile.write(Z_, stride_);
      });
  }

  // D dA, D dP, and the products of both with A and P, whose sums the decays' slopes are.
  void pairs(int64_t n) {
    transpose_block(C_, stride_, n, values_, ct_, kWidth);
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(values_, {Z_, stride_, 1}, ct_, kWidth);
      tile.write(dA_, kWidth);
    });
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(values_, {dy_, stride_, 1}, ct_, kWidth);
      tile.write(dP_, kWidth);
    });
    for (int64_t t = 0; t < n; ++t)
      for (int64_t s = 0; s < kWidth; s += kLanes) {
        const int64_t at = t * kWidth + s;
        const F a = load(dA_ + at), p = load(dP_ + at), strict = load(below_ + at);
        // On the diagonal nothing decays.
        const F undecayed = select(less(zero(), strict), load(P_ + at), zero());
        store(slope_ + at, fma(a, load(A_ + at), p * undecayed));
        store(dA_ + at, set(minus_beta_[t]) * a * strict);
        store(dP_ + at, p * load(decay_ + at));
      }
  }

  void keys_and_queries(int64_t n, const float* S) {
    std::memset(lanes_, 0, 2 * kRowCount * kLanes * sizeof(float));
    float *start = lanes_, *end = lanes_ + kRowCount * kLanes;
    // += by row what a tile's values are times those of `with`, lane by lane.
    auto note = [&](auto& tile, const float* with, float* sums) {
      tile.each([&](int i, int j, F& x) {
        if (i >= tile.rows) return;
        float* to = sums + (tile.row + i) * kLanes;
        store(to, fma(x, load(tile.place(with, i, j, key_stride_)), load(to)));
      });
    };
    transpose_block(G_, stride_, keys_, values_, turned_, key_stride_);
    each_tile(n, keys_, [&](auto place) {
      Tile tile(place);
      tile.add(values_, {C_, stride_, 1}, turned_, key_stride_);
      note(tile, k_, end);
      tile.write(dk_, key_stride_);
    });
    transpose_block(S, stride_, keys_, values_, turned_, key_stride_);
    each_tile(n, keys_, [&](auto place) {
      Tile tile(place);
      tile.add(values_, {dy_, stride_, 1}, turned_, key_stride_);
      note(tile, q_, start);
      tile.add_lower({dP_, kWidth, 1}, k_, key_stride_);
      tile.scale(scale_);
      tile.write(dq_, key_stride_);
    });
    each_tile(n, keys_, [&](auto place) {
      Tile tile(place);
      tile.add(values_, {Z_, stride_, 1}, turned_, key_stride_);
      note(tile, k_, start);
      tile.each([&](int i, int j, F& x) { x = x + load(tile.place(dk_, i, j, key_stride_)); });
      tile.template add_lower<1>({dA_, kWidth, 1}, k_, key_stride_);
      add_upper<1>(tile, n, {dA_, 1, kWidth}, k_, key_stride_);
      add_upper(tile, n, {dP_, 1, kWidth}, q_, key_stride_);
      tile.write(dk_, key_stride_);
    });
    for (int64_t t = 0; t < n; ++t)
      at_start_[t] = sum(load(start + t * kLanes)), at_end_[t] = sum(load(end + t * kLanes));
  }

  // dg_τ = through + Σ_{s < τ <= t} of the pairs + Σ_{t >= τ} at_start + Σ_{s < τ} at_end.
  void slopes(int64_t begin, int64_t n, int64_t head, float through) {
    alignas(64) float index[kLanes];
    for (int i = 0; i < kLanes; ++i) index[i] = float(i);
    const F lane = load(index);
    std::memset(running_, 0, kWidth * sizeof(float));
    float later = 0;
    for (int64_t t = n - 1; t >= 0; --t) {
      F total = zero();
      for (int64_t s = 0; s < t; s += kLanes) {
        const F sum = load(running_ + s) + load(slope_ + t * kWidth + s);
        store(running_ + s, sum);
        total = total + select(less(lane, set(float(t - s))), sum, zero());
      }
      later += at_start_[t];
      op_.dg.row(begin + t)[head] = through + sum(total) + later;
    }
    float earlier = 0;
    for (int64_t t = 0; t < n; ++t) op_.dg.row(begin + t)[head] += earlier, earlier += at_end_[t];
  }

  void scaled_row(const float* from, float factor, int64_t row, float* to) const {
    for (int64_t c = row * stride_; c < (row + 1) * stride_; c += kLanes) store(to + c, set(factor) * load(from + c));
  }
  static float dot(const float* a, const float* b, int64_t n) {
    F total = zero();
    for (int64_t i = 0; i < n; i += kLanes) total = fma(load(a + i), load(b + i), total);
    return sum(total);
  }

  const GatedDeltaRuleBackward& op_;
  const int64_t keys_, values_, key_stride_, stride_, size_;
  const float scale_;
  bool streamed_ = false;             // results are written past the caches
  float *q_, *k_, *dq_, *dk_;         // (chunk, key)
  float *dy_, *C_, *Z_, *written_;    // (chunk, value)
  float *decay_, *below_, *A_, *P_;   // (chunk, chunk): D, without its diagonal, A or -β A, P
  float *dA_, *dP_, *slope_;          // (chunk, chunk)
  float *g_, *from_start_, *to_end_;  // (chunk)
  float *beta_, *minus_beta_, *at_start_, *at_end_, *running_;
  float* kt_;                // (key, chunk)
  float *ct_, *turned_;      // (value, chunk), (value, key)
  float* lanes_;             // sums by row, lane by lane
  float *work_, *work_end_;  // all of the above
  float *G_, *X_, *states_;
};

}  // namespace statespace::STATESPACE_ISA
