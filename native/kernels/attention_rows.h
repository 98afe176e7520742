#pragma once
// Decode: a few query rows against keys and values where they lie, each read once for all rows.
//
// Queries and results hold the channels in the order in which kWide of them load: those of bf16 as even ones and odd
// ones, which takes a shift and a mask in place of a shuffle.
#include <algorithm>
#include <type_traits>

#include "kernels/attention_plan.h"
#include "kernels/attention_tile.h"

namespace statespace::STATESPACE_ISA {

// Rows that are multiplied together: more are taken in turns, while the keys or values are in the first-level cache.
constexpr int kRowsTogether = 4;
// Pages lie apart, and the processor begins to fetch ahead anew in each of them: it is told what comes, so many bytes
// before.
constexpr int64_t kFetchAhead = 8192;

// Where channel d stands.
template <class T>
inline int64_t channel_place(int64_t d, int64_t headdim) {
  if (!std::is_same_v<T, bf16_t> || d >= headdim / kWide * kWide) return d;
  return d / kWide * kWide + d % 2 * kLanes + d % kWide / 2;
}

template <class T>
inline void load_wide(const T* p, F& first, F& second) {
  if constexpr (std::is_same_v<T, bf16_t>) {
    load_pairs(p, first, second);
  } else {
    first = load(p), second = load(p + kLanes);
  }
}

// Addresses of rows, and of those that are read after them.
template <class T>
struct RowList {
  const T* const* rows;
  int64_t count;
  const T* const* next;
  int64_t next_count, headdim;

  void fetch_ahead(int64_t j) const {
    const int64_t bytes = headdim * int64_t(sizeof(T)), at = j + std::clamp<int64_t>(kFetchAhead / bytes, 1, kPartKeys);
    if (at >= count + next_count) return;
    const char* p = reinterpret_cast<const char*>(at < count ? rows[at] : next[at - count]);
    for (int64_t i = 0; i < bytes; i += 64) prefetch(p + i);
  }
};

// scores[r][j] = q_r · k_j; q (kRows, width) is filled up with zeros to whole vectors.
template <int kRows, class T>
inline void score_rows(const float* q, int64_t width, const RowList<T>& keys, float* scores) {
  constexpr int kSums = kRows == 3 ? 4 : kRows;  // a power of two
  constexpr int kKeys = kLanes > kSums ? kLanes / kSums : 1;
  const int64_t count = keys.count, headdim = keys.headdim;
  // One lane goes channel by channel: of two products that one sum takes in a step, gcc 12's vectoriser loses one.
  const int64_t whole = kLanes == 1 ? 0 : headdim / kWide * kWide;
  for (int64_t j = 0; j < count; j += kKeys) {
    const T* key[kKeys];
#pragma GCC unroll 16
    for (int i = 0; i < kKeys; ++i) {
      key[i] = keys.rows[j + i < count ? j + i : count - 1];
      keys.fetch_ahead(j + i);
    }
    F acc[kSums * kKeys];
#pragma GCC unroll 16
    for (F& a : acc) a = zero();
    for (int64_t d = 0; d < whole; d += kWide) {
      F first[kRows], second[kRows];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) load_wide(q + r * width + d, first[r], second[r]);
#pragma GCC unroll 16
      for (int i = 0; i < kKeys; ++i) {
        F a, b;
        load_wide(key[i] + d, a, b);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) acc[r * kKeys + i] = fma(first[r], a, fma(second[r], b, acc[r * kKeys + i]));
      }
    }
    for (int64_t d = whole; d < headdim; d += kLanes) {
      const int n = int(std::min<int64_t>(headdim - d, kLanes));
#pragma GCC unroll 16
      for (int i = 0; i < kKeys; ++i) {
        const F k = n == kLanes ? load(key[i] + d) : load(key[i] + d, n);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) acc[r * kKeys + i] = fma(load(q + r * width + d), k, acc[r * kKeys + i]);
      }
    }
    if constexpr (kSums * kKeys == kLanes) {
      alignas(64) float all[kLanes];
      store(all, sums(acc));
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
        std::memcpy(scores + r * kScoreStride + j, all + r * kKeys, sizeof(float) * kKeys);
    } else {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) scores[r * kScoreStride + j] = sum(acc[r]);
    }
  }
}

// out[r] += Σ_j p[r][j] · v_j over keys [begin, end)
template <int kRows, class T>
inline void blend_rows(const float* p, const RowList<T>& values, int64_t begin, int64_t end, float* out,
                       int64_t width) {
  // As many sums as leave registers for the values and the weights.
  constexpr int kPairs = kLanes == 8 ? (kRows == 1 ? 4 : kRows == 2 ? 2 : 1) : (kRows <= 2 ? 4 : 2);
  const int64_t headdim = values.headdim, whole = headdim / kWide * kWide;
  int64_t d = 0;
  auto wide = [&]<int kCount>() {
    for (; d + kCount * kWide <= whole; d += kCount * kWide) {
      F acc[kRows][2 * kCount];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < 2 * kCount; ++c) acc[r][c] = load(out + r * width + d + c * kLanes);
      for (int64_t j = begin; j < end; ++j) {
        if (d == 0) values.fetch_ahead(j);
        F weight[kRows];
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) weight[r] = set(p[r * kScoreStride + j]);
#pragma GCC unroll 16
        for (int c = 0; c < kCount; ++c) {
          F a, b;
          load_wide(values.rows[j] + d + c * kWide, a, b);
#pragma GCC unroll 16
          for (int r = 0; r < kRows; ++r) {
            acc[r][2 * c] = fma(weight[r], a, acc[r][2 * c]);
            acc[r][2 * c + 1] = fma(weight[r], b, acc[r][2 * c + 1]);
          }
        }
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 16
        for (int c = 0; c < 2 * kCount; ++c) store(out + r * width + d + c * kLanes, acc[r][c]);
    }
  };
  wide.template operator()<kPairs>();
  if constexpr (kPairs > 2) wide.template operator()<2>();
  if constexpr (kPairs > 1) wide.template operator()<1>();
  for (; d < headdim; d += kLanes) {
    const int n = int(std::min<int64_t>(headdim - d, kLanes));
    F acc[kRows];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) acc[r] = load(out + r * width + d);
    for (int64_t j = begin; j < end; ++j) {
      const F v = n == kLanes ? load(values.rows[j] + d) : load(values.rows[j] + d, n);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[r] = fma(set(p[r * kScoreStride + j]), v, acc[r]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) store(out + r * width + d, acc[r]);
  }
}

// Calls fn.operator()<n>(r) for rows [r, r + n) until all are done.
template <class Fn>
inline void each_rows(int64_t rows, Fn&& fn) {
  int64_t r = 0;
  for (; rows - r >= kRowsTogether; r += kRowsTogether) fn.template operator()<kRowsTogether>(r);
  if (rows - r == 3) fn.template operator()<3>(r);
  if (rows - r == 2) fn.template operator()<2>(r);
  if (rows - r == 1) fn.template operator()<1>(r);
}

}  // namespace statespace::STATESPACE_ISA
