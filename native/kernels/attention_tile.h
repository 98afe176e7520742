#pragma once
// The tiles of attention: a panel of query rows against a block of keys, multiplied in f32. What they share with other
// ways of multiplying (attention_pairs.h) stands before them.
#include "isa/math.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

// Rows of a panel: with kWide columns their sums fill the vector registers.
constexpr int kPanelRows = kLanes == 16 ? 14 : kLanes == 8 ? 6 : kLanes == 4 ? 12 : 4;
constexpr int kWide = 2 * kLanes;
constexpr int kBlockPanels = 224 / kPanelRows;
constexpr int kBlockRows = kBlockPanels * kPanelRows;
constexpr int kBlockKeys = 512;
// Rows of scores are not a power of two apart, which would put them all into two cache sets.
constexpr int kScoreStride = kBlockKeys + 16;

// Fetches channel d of the row that is packed so many behind row j: rows of one head are as far apart as all heads are
// wide, and no processor foresees them.
template <class T>
inline void fetch_row(const T* const* rows, int64_t j, int64_t keys, int64_t d) {
  constexpr int64_t kAhead = 2 * kLanes;
  prefetch(rows[j + kAhead < keys ? j + kAhead : j] + d);
}

constexpr float kNoMax = -3.0e38f;  // finite, so that "-inf minus the maximum" is -inf and never NaN
constexpr float kLog2e = 1.44269504f;

inline int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

// Panels of kWide keys, transposed: (keys / kWide, words, kWide), where part(j, d, n) are words [d, d + n) of key j;
// missing keys read as zero.
template <class Fn>
inline void transpose_keys(int64_t keys, int64_t words, float* packed, Fn&& part) {
  for (int64_t j0 = 0; j0 < keys; j0 += kWide, packed += words * kWide)
    for (int c = 0; c < kWide; c += kLanes)
      for (int64_t d = 0; d < words; d += kLanes) {
        const int n = words - d < kLanes ? int(words - d) : kLanes;
        F square[kLanes];
        for (int i = 0; i < kLanes; ++i) square[i] = j0 + c + i < keys ? part(j0 + c + i, d, n) : zero();
        transpose(square);
        for (int i = 0; i < n; ++i) store(packed + (d + i) * kWide + c, square[i]);
      }
}

// softcap · tanh(factor · s) in the units of log2; factor · s is the score over softcap.
inline void cap(float* s, int64_t begin, int64_t end, float factor, float softcap) {
  for (int64_t j = begin; j < end; j += kLanes) store(s + j, set(softcap * kLog2e) * tanh(set(factor) * load(s + j)));
}

struct RowState {
  float max = kNoMax, sum = 0;
};

// Replaces the scores [begin, end) of one row, which times factor are in units of log2, by the weights 2^(score - max)
// and returns what the sums so far must be multiplied by. Whole vectors are read and written: what surrounds the range
// becomes 0 or nearly so.
template <class Tiles>
inline float soften(float* s, int64_t begin, int64_t end, float factor, RowState& state) {
  const int64_t first = begin / Tiles::kWeights * Tiles::kWeights, last = round_up(end, Tiles::kWeights);
  for (int64_t j = first; j < begin; ++j) s[j] = -INFINITY;
  for (int64_t j = end; j < last; ++j) s[j] = -INFINITY;
  F top = set(kNoMax);
  for (int64_t j = first; j < last; j += kLanes) top = max(top, load(s + j));
  const float here = max_of(top) * factor, highest = here > state.max ? here : state.max;
  alignas(64) float shrink[kLanes];
  store(shrink, exp2(set(state.max - highest)));
  state.sum = state.sum * shrink[0] + Tiles::weigh(s, first, last, factor, highest);
  state.max = highest;
  return shrink[0];
}

struct FloatTiles {
  static constexpr int kRows = kPanelRows;
  static constexpr int kWeights = kLanes;  // that weigh() takes at once
  static constexpr int kTogether = 1;      // keys that blend() takes at once
  using Query = float;
  // Around all use of the tiles by a thread.
  static void begin() {}
  static void end() {}

  // Queries are packed times query_scale(scale); score() times score_scale(scale) is q·k times scale.
  static float query_scale(float scale) { return scale; }
  static float score_scale(float) { return 1; }
  static int64_t words(int64_t headdim) { return headdim; }
  // Where channel d of row r lies: (rows / kPanelRows, headdim, kPanelRows).
  static int64_t query_at(int64_t headdim, int64_t r, int64_t d) {
    return (r / kPanelRows * headdim + d) * kPanelRows + r % kPanelRows;
  }

  // acc[r][c] += Σ_k a[r·row_step + k·k_step] · b[k·kWide + c]
  template <int kVectors, int kRowStep, int kDepthStep>
  static void multiply(const float* a, const float* b, int64_t depth, F (&acc)[kPanelRows][kVectors]) {
    for (int64_t k = 0; k < depth; ++k, a += kDepthStep, b += kWide) {
      F row[kVectors];
      for (int c = 0; c < kVectors; ++c) row[c] = load(b + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPanelRows; ++r) {
        const F x = set(a[r * kRowStep]);
        for (int c = 0; c < kVectors; ++c) acc[r][c] = fma(x, row[c], acc[r][c]);
      }
    }
  }

  template <class T>
  static void pack_keys(const T* const* rows, int64_t keys, int64_t headdim, float* packed) {
    transpose_keys(keys, headdim, packed, [&](int64_t j, int64_t d, int n) {
      fetch_row(rows, j, keys, d);
      return n == kLanes ? load(rows[j] + d) : load(rows[j] + d, n);
    });
  }

  // Panels of kWide channels: (headdim / kWide, kBlockKeys, kWide), the last one filled up with zeros.
  template <class T>
  static void pack_values(const T* const* rows, int64_t keys, int64_t headdim, float* packed) {
    for (int64_t j = 0; j < keys; ++j)
      for (int64_t d = 0; d < round_up(headdim, kWide); d += kLanes) {
        fetch_row(rows, j, keys, d);
        const int64_t left = headdim - d;
        const F x = left >= kLanes ? load(rows[j] + d) : left > 0 ? load(rows[j] + d, int(left)) : zero();
        store(packed + (d / kWide * kBlockKeys + j) * kWide + d % kWide, x);
      }
  }

  // scores (kPanelRows, kScoreStride), columns [begin, end) in steps of kWide.
  static void score(const float* q, const float* keys, int64_t headdim, int64_t begin, int64_t end, float* scores) {
    for (int64_t j = begin; j < end; j += kWide) {
      F acc[kPanelRows][2];
      for (auto& row : acc) row[0] = row[1] = zero();
      multiply<2, 1, kPanelRows>(q, keys + j * headdim, headdim, acc);
      for (int r = 0; r < kPanelRows; ++r)
        for (int c = 0; c < 2; ++c) store(scores + r * kScoreStride + j + c * kLanes, acc[r][c]);
    }
  }

  // s [first, last) = 2^(factor · s - highest); returns their sum.
  static float weigh(float* s, int64_t first, int64_t last, float factor, float highest) {
    F total = zero();
    for (int64_t j = first; j < last; j += kLanes) {
      const F p = exp2(fma(load(s + j), set(factor), set(-highest)));
      store(s + j, p);
      total = total + p;
    }
    return sum(total);
  }

  // out (kPanelRows, width) = shrink · out + scores · values over keys [begin, end)
  static void blend(const float* scores, const float* values, int64_t headdim, int64_t begin, int64_t end,
                    const float* shrink, float* out, int64_t width) {
    auto panel = [&]<int kVectors>(int64_t d) {
      F acc[kPanelRows][kVectors];
      for (int r = 0; r < kPanelRows; ++r)
        for (int c = 0; c < kVectors; ++c) acc[r][c] = set(shrink[r]) * load(out + r * width + d + c * kLanes);
      multiply<kVectors, kScoreStride, 1>(scores + begin, values + d * kBlockKeys + begin * kWide, end - begin, acc);
      for (int r = 0; r < kPanelRows; ++r)
        for (int c = 0; c < kVectors; ++c) store(out + r * width + d + c * kLanes, acc[r][c]);
    };
    for (int64_t d = 0; d < headdim; d += kWide)
      headdim - d > kLanes ? panel.template operator()<2>(d) : panel.template operator()<1>(d);
  }

  // The same for one row, which sees keys that its neighbours do not: a hidden value may be anything, even NaN.
  static void blend_row(const float* p, const float* values, int64_t headdim, int64_t begin, int64_t end, float* out) {
    for (int64_t d = 0; d < headdim; d += kLanes) {
      const float* v = values + d / kWide * kWide * kBlockKeys + d % kWide;
      F acc = load(out + d);
      for (int64_t j = begin; j < end; ++j) acc = fma(set(p[j]), load(v + j * kWide), acc);
      store(out + d, acc);
    }
  }
};

}  // namespace statespace::STATESPACE_ISA
