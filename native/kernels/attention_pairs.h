#pragma once
// The tiles of attention where keys and values are bf16 and the machine multiplies pairs of them (vdpbf16ps): queries
// and weights are rounded to bf16, sums and the softmax stay f32. A word is a pair: two channels of a query or key, two
// neighbouring keys of a weight or value, the first in the low half.
#include "kernels/attention_tile.h"

namespace statespace::STATESPACE_ISA {

// Sequences of at least so many keys are multiplied by pairs. Shorter ones cost little beside a model's matrices, and
// the fewer keys there are, the less their roundings cancel.
constexpr int64_t kPairKeys = 256;

#if defined(STATESPACE_BF16_DOT)

struct PairTiles {
  static constexpr int kRows = kPanelRows;
  static constexpr int kWeights = 2 * kLanes;
  static constexpr int kTogether = 2;
  using Query = bf16_t;
  static void begin() {}
  static void end() {}

  // The scale multiplies the scores, not the queries: one that is bf16 is not rounded again.
  static float query_scale(float scale) { return float(scale > 0) - float(scale < 0); }
  // Not 0, which would make NaN of a score that is -inf.
  static float score_scale(float scale) { return std::fmax(std::fabs(scale), 0x1p-126f); }
  static int64_t words(int64_t headdim) { return (headdim + 1) / 2; }
  static int64_t query_at(int64_t headdim, int64_t r, int64_t d) {
    return ((r / kPanelRows * words(headdim) + d / 2) * kPanelRows + r % kPanelRows) * 2 + d % 2;
  }

  static void pack_keys(const bf16_t* const* rows, int64_t keys, int64_t headdim, float* packed) {
    pack_keys(rows, keys, headdim, words(headdim), packed);
  }
  // The same with more words than the channels fill: zeros.
  static void pack_keys(const bf16_t* const* rows, int64_t keys, int64_t headdim, int64_t words, float* packed) {
    transpose_keys(keys, words, packed, [&](int64_t j, int64_t d, int) {
      fetch_row(rows, j, keys, 2 * d);
      const int64_t left = headdim - 2 * d;
      return as_floats(left >= 2 * kLanes ? load_pairs(rows[j] + 2 * d) : load_pairs(rows[j] + 2 * d, int(left)));
    });
  }

  // (headdim / kWide, kBlockKeys / 2, kWide), filled up with zeros.
  static void pack_values(const bf16_t* const* rows, int64_t keys, int64_t headdim, float* packed) {
    alignas(64) static constexpr bf16_t kNone[kLanes] = {};
    for (int64_t j = 0; j < keys; j += 2)
      for (int64_t d = 0; d < round_up(headdim, kWide); d += kLanes) {
        fetch_row(rows, j, keys, d);
        if (j + 1 < keys) fetch_row(rows, j + 1, keys, d);
        const int64_t left = headdim - d;
        const bf16_t *first = left > 0 ? rows[j] + d : kNone,
                     *second = left > 0 && j + 1 < keys ? rows[j + 1] + d : kNone;
        store_pairs(packed + (d / kWide * kBlockKeys + j) / 2 * kWide + d % kWide,
                    left >= kLanes ? zip_pairs(first, second) : zip_pairs(first, second, left > 0 ? int(left) : 0));
      }
  }

  // acc[r][c] += Σ_k a[r·row_step + k·k_step] · b[k·kWide + c] over pairs
  template <int kVectors, int kRowStep, int kDepthStep>
  STATESPACE_BF16_DOT static inline void multiply(const float* a, const float* b, int64_t depth,
                                                  F (&acc)[kPanelRows][kVectors]) {
    for (int64_t k = 0; k < depth; ++k, a += kDepthStep, b += kWide) {
      Pairs row[kVectors];
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) row[c] = load_pairs(b + c * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kPanelRows; ++r) {
        const Pairs x = set_pair(a + r * kRowStep);
#pragma GCC unroll 2
        for (int c = 0; c < kVectors; ++c) acc[r][c] = dot_pairs(acc[r][c], x, row[c]);
      }
    }
  }

  STATESPACE_BF16_DOT static void score(const float* q, const float* keys, int64_t headdim, int64_t begin, int64_t end,
                                        float* scores) {
    for (int64_t j = begin; j < end; j += kWide) {
      F acc[kPanelRows][2];
#pragma GCC unroll 16
      for (auto& row : acc) row[0] = row[1] = zero();
      multiply<2, 1, kPanelRows>(q, keys + j * words(headdim), words(headdim), acc);
#pragma GCC unroll 16
      for (int r = 0; r < kPanelRows; ++r)
#pragma GCC unroll 2
        for (int c = 0; c < 2; ++c) store(scores + r * kScoreStride + j + c * kLanes, acc[r][c]);
    }
  }

  // Pairs of weights take the place of the first half of the scores' row. Their sum is that of the rounded weights:
  // what y divides by is then what the values were multiplied with, and rounding leaves no error in their common part.
  STATESPACE_BF16_DOT static float weigh(float* s, int64_t first, int64_t last, float factor, float highest) {
    const F scale = set(factor), shift = set(-highest);
    const Pairs ones = set_pair(0x3f803f80);
    F total = zero();
    for (int64_t j = first; j < last; j += kWeights) {
      const Pairs p = round_pairs(exp2(fma(load(s + j), scale, shift)), exp2(fma(load(s + j + kLanes), scale, shift)));
      store_pairs(s + j / 2, p);
      total = dot_pairs(total, p, ones);
    }
    return sum(total);
  }

  template <int kVectors>
  STATESPACE_BF16_DOT static void blend(const float* weights, const float* values, int64_t depth, const float* shrink,
                                        float* out, int64_t width) {
    F acc[kPanelRows][kVectors];
#pragma GCC unroll 16
    for (int r = 0; r < kPanelRows; ++r)
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) acc[r][c] = set(shrink[r]) * load(out + r * width + c * kLanes);
    multiply<kVectors, kScoreStride, 1>(weights, values, depth, acc);
#pragma GCC unroll 16
    for (int r = 0; r < kPanelRows; ++r)
#pragma GCC unroll 2
      for (int c = 0; c < kVectors; ++c) store(out + r * width + c * kLanes, acc[r][c]);
  }

  // begin is even; an odd end is left to blend_row.
  static void blend(const float* weights, const float* values, int64_t headdim, int64_t begin, int64_t end,
                    const float* shrink, float* out, int64_t width) {
    const float* p = weights + begin / 2;
    const int64_t depth = (end - begin) / 2;
    for (int64_t d = 0; d < headdim; d += kWide) {
      const float* v = values + d / 2 * kBlockKeys + begin / 2 * kWide;
      headdim - d > kLanes ? blend<2>(p, v, depth, shrink, out + d, width)
                           : blend<1>(p, v, depth, shrink, out + d, width);
    }
  }

  // The half of a pair that lies outside [begin, end) is a hidden value.
  STATESPACE_BF16_DOT static void blend_row(const float* weights, const float* values, int64_t headdim, int64_t begin,
                                            int64_t end, float* out) {
    for (int64_t d = 0; d < headdim; d += kLanes) {
      const float* v = values + d / kWide * kWide * (kBlockKeys / 2) + d % kWide;
      F acc = load(out + d);
      for (int64_t j = begin / 2; 2 * j < end; ++j) {
        const uint32_t seen = (2 * j >= begin ? 0x0000ffff : 0) | (2 * j + 1 < end ? 0xffff0000 : 0);
        acc = dot_pairs(acc, set_pair(weights + j), mask_pairs(load_pairs(v + j * kWide), seen));
      }
      store(out + d, acc);
    }
  }
};

#endif

}  // namespace statespace::STATESPACE_ISA
