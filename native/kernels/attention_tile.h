#pragma once
// The tiles of attention: a panel of query rows against a block of keys.
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

constexpr float kNoMax = -3.0e38f;  // finite, so that "-inf minus the maximum" is -inf and never NaN
constexpr float kLog2e = 1.44269504f;

inline int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

// acc[r][c] += Σ_k a[r·row_step + k·k_step] · b[k·kWide + c]
template <int kVectors, int kRowStep, int kDepthStep>
inline void multiply(const float* a, const float* b, int64_t depth, F (&acc)[kPanelRows][kVectors]) {
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

// Panels of kWide keys, transposed: (keys / kWide, headdim, kWide); missing keys read as zero.
template <class T>
inline void pack_keys(const T* const* rows, int64_t keys, int64_t headdim, float* packed) {
  for (int64_t j0 = 0; j0 < keys; j0 += kWide, packed += headdim * kWide)
    for (int64_t j = 0; j < kWide; ++j)
      for (int64_t d = 0; d < headdim; ++d) packed[d * kWide + j] = j0 + j < keys ? to_float(rows[j0 + j][d]) : 0.f;
}

// Panels of kWide channels: (headdim / kWide, kBlockKeys, kWide), the last one filled up with zeros.
template <class T>
inline void pack_values(const T* const* rows, int64_t keys, int64_t headdim, float* packed) {
  for (int64_t d0 = 0; d0 < headdim; d0 += kWide, packed += kBlockKeys * kWide)
    for (int64_t j = 0; j < keys; ++j)
      for (int c = 0; c < kWide; c += kLanes) {
        const int64_t left = headdim - d0 - c;
        const F x = left >= kLanes ? load(rows[j] + d0 + c) : left > 0 ? load(rows[j] + d0 + c, int(left)) : zero();
        store(packed + j * kWide + c, x);
      }
}

// scores (kPanelRows, kScoreStride), columns [begin, end) in steps of kWide.
inline void score(const float* q, const float* keys, int64_t headdim, int64_t begin, int64_t end, float* scores) {
  for (int64_t j = begin; j < end; j += kWide) {
    F acc[kPanelRows][2];
    for (auto& row : acc) row[0] = row[1] = zero();
    multiply<2, 1, kPanelRows>(q, keys + j * headdim, headdim, acc);
    for (int r = 0; r < kPanelRows; ++r)
      for (int c = 0; c < 2; ++c) store(scores + r * kScoreStride + j + c * kLanes, acc[r][c]);
  }
}

// softcap · tanh(s / softcap) in the units of log2; the division is already in q.
inline void cap(float* s, int64_t begin, int64_t end, float softcap) {
  for (int64_t j = begin; j < end; j += kLanes) store(s + j, set(softcap * kLog2e) * tanh(load(s + j)));
}

struct RowState {
  float max = kNoMax, sum = 0;
};

// Replaces the scores [begin, end) of one row, in units of log2, by 2^(score - max) and returns what the sums so far
// must be multiplied by. Whole vectors are read and written: what surrounds the range becomes 0 or nearly so.
inline float soften(float* s, int64_t begin, int64_t end, RowState& state) {
  const int64_t first = begin / kLanes * kLanes, last = round_up(end, kLanes);
  for (int64_t j = first; j < begin; ++j) s[j] = -INFINITY;
  for (int64_t j = end; j < last; ++j) s[j] = -INFINITY;
  F top = set(state.max);
  for (int64_t j = first; j < last; j += kLanes) top = max(top, load(s + j));
  const float highest = max_of(top);
  F total = zero();
  for (int64_t j = first; j < last; j += kLanes) {
    const F p = exp2(load(s + j) - set(highest));
    store(s + j, p);
    total = total + p;
  }
  alignas(64) float shrink[kLanes];
  store(shrink, exp2(set(state.max - highest)));
  state.sum = state.sum * shrink[0] + sum(total);
  state.max = highest;
  return shrink[0];
}

// out (kPanelRows, width) = shrink · out + scores · values over keys [begin, end)
inline void blend(const float* scores, const float* values, int64_t headdim, int64_t begin, int64_t end,
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
inline void blend_row(const float* p, const float* values, int64_t headdim, int64_t begin, int64_t end, float* out) {
  for (int64_t d = 0; d < headdim; d += kLanes) {
    const float* v = values + d / kWide * kWide * kBlockKeys + d % kWide;
    F acc = load(out + d);
    for (int64_t j = begin; j < end; ++j) acc = fma(set(p[j]), load(v + j * kWide), acc);
    store(out + d, acc);
  }
}

}  // namespace statespace::STATESPACE_ISA
