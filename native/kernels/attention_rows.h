#pragma once
// Decode: up to kFewRows query rows against keys and values where they lie, each read once for all rows.
#include "kernels/attention_tile.h"

namespace statespace::STATESPACE_ISA {

// scores[r][j] = q_r · k_j; q (kRows, width) is filled up with zeros to whole vectors.
template <int kRows, class T>
inline void score_rows(const float* q, int64_t width, const T* const* keys, int64_t count, int64_t headdim,
                       float* scores) {
  const int64_t whole = headdim / kLanes * kLanes;
  for (int64_t j = 0; j < count; ++j) {
    F acc[kRows];
    for (auto& a : acc) a = zero();
    for (int64_t d = 0; d < whole; d += kLanes) {
      const F k = load(keys[j] + d);
      for (int r = 0; r < kRows; ++r) acc[r] = fma(load(q + r * width + d), k, acc[r]);
    }
    if (whole < headdim) {
      const F k = load(keys[j] + whole, int(headdim - whole));
      for (int r = 0; r < kRows; ++r) acc[r] = fma(load(q + r * width + whole), k, acc[r]);
    }
    for (int r = 0; r < kRows; ++r) scores[r * kScoreStride + j] = sum(acc[r]);
  }
}

// out[r] += Σ_j p[r][j] · v_j over keys [begin, end)
template <int kRows, class T>
inline void blend_rows(const float* p, const T* const* values, int64_t headdim, int64_t begin, int64_t end, float* out,
                       int64_t width) {
  constexpr int kVectors = 4;
  int64_t d = 0;
  for (; d + kVectors * kLanes <= headdim; d += kVectors * kLanes) {
    F acc[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kVectors; ++c) acc[r][c] = load(out + r * width + d + c * kLanes);
    for (int64_t j = begin; j < end; ++j)
      for (int c = 0; c < kVectors; ++c) {
        const F v = load(values[j] + d + c * kLanes);
        for (int r = 0; r < kRows; ++r) acc[r][c] = fma(set(p[r * kScoreStride + j]), v, acc[r][c]);
      }
    for (int r = 0; r < kRows; ++r)
      for (int c = 0; c < kVectors; ++c) store(out + r * width + d + c * kLanes, acc[r][c]);
  }
  for (; d < headdim; d += kLanes) {
    const int64_t left = headdim - d;
    F acc[kRows];
    for (int r = 0; r < kRows; ++r) acc[r] = load(out + r * width + d);
    for (int64_t j = begin; j < end; ++j) {
      const F v = left >= kLanes ? load(values[j] + d) : load(values[j] + d, int(left));
      for (int r = 0; r < kRows; ++r) acc[r] = fma(set(p[r * kScoreStride + j]), v, acc[r]);
    }
    for (int r = 0; r < kRows; ++r) store(out + r * width + d, acc[r]);
  }
}

}  // namespace statespace::STATESPACE_ISA
