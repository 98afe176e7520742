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

// Calls fn(d, where it stands) for every channel.
template <class T, class Fn>
inline void each_channel(int64_t headdim, Fn&& fn) {
  int64_t d = 0;
  if constexpr (std::is_same_v<T, bf16_t>)
    for (; d + kWide <= headdim; d += kWide)
      for (int i = 0; i < kLanes; ++i) fn(d + 2 * i, d + i), fn(d + 2 * i + 1, d + kLanes + i);
  for (; d < headdim; ++d) fn(d, d);
}

template <class T>
inline void load_wide(const T* p, F& first, F& second) {
  if constexpr (std::is_same_v<T, bf16_t>) {
    load_pairs(p, first, second);
  } else {
    first = load(p), second = load(p + kLanes);
  }
}

// Rows that lie one after another, and where those begin that are read after them.
template <class T>
struct RowRun {
  RowRun(const T* first, int64_t stride, int64_t count, const T* next, int64_t headdim)
      : first(first), stride(stride), count(count), headdim(headdim) {
    const int64_t ahead = std::max<int64_t>(1, kFetchAhead / (headdim * int64_t(sizeof(T))));
    here_ = std::max<int64_t>(0, count - ahead);
    within_ = ahead * stride * int64_t(sizeof(T));
    beyond_ =
        next ? reinterpret_cast<const char*>(next) - reinterpret_cast<const char*>(first + (count - ahead) * stride)
             : within_;
  }
  const T* const first;
  const int64_t stride, count, headdim;

  const T* row(int64_t j) const { return first + j * stride; }
  // From row j to the one that is to be fetched meanwhile, in bytes.
  int64_t ahead(int64_t j) const { return j < here_ ? within_ : beyond_; }

 private:
  int64_t here_, within_, beyond_;
};

constexpr int kLine = 64;  // bytes that are fetched together

// Fetches the lines of kWide values that are `ahead` bytes behind p, whose place in a row is d.
template <class T>
inline void fetch_ahead(const T* p, int64_t d, int64_t ahead) {
  constexpr int kBytes = kWide * int(sizeof(T));
  if (kBytes < kLine && d * int64_t(sizeof(T)) % kLine) return;
#pragma GCC unroll 8
  for (int c = 0; c < kBytes; c += kLine) prefetch(reinterpret_cast<const char*>(p) + ahead + c);
}

// scores[r][i] = q_r · key(i) of as many keys as kLanes sums hold; q (kRows, width) is filled up with zeros to whole
// vectors.
template <int kRows>
constexpr int kSumsOf = kRows == 3 ? 4 : kRows;  // a power of two
template <int kRows>
constexpr int kKeysOf = kLanes > kSumsOf<kRows> ? kLanes / kSumsOf<kRows> : 1;

// Of them, so many whose lines are read in turn: of 16 rows of 256 bytes (bf16, 128 channels) 16 GB/s came in, of 2 19;
// f32 and shorter rows alike.
constexpr int kKeysNear = 2;

template <int kRows, class T, class Key>
inline void score_keys(const float* q, int64_t width, int64_t headdim, int64_t ahead, float* scores, Key&& key) {
  constexpr int kSums = kSumsOf<kRows>, kKeys = kKeysOf<kRows>, kNear = kKeys < kKeysNear ? kKeys : kKeysNear;
  // One lane goes channel by channel: of two products that one sum takes in a step, gcc 12's vectoriser loses one.
  const int64_t whole = kLanes == 1 ? 0 : headdim / kWide * kWide;
  F acc[kSums * kKeys];
#pragma GCC unroll 16
  for (F& a : acc) a = zero();
  const int64_t bytes = headdim * int64_t(sizeof(T));
#pragma GCC unroll 16
  for (int near = 0; near < kKeys; near += kNear) {
#pragma GCC unroll 16
    for (int i = near; i < near + kNear; ++i)
      for (int64_t c = 0; c < bytes; c += kLine) prefetch(reinterpret_cast<const char*>(key(i)) + ahead + c);
    for (int64_t d = 0; d < whole; d += kWide) {
      F first[kRows], second[kRows];
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) load_wide(q + r * width + d, first[r], second[r]);
#pragma GCC unroll 16
      for (int i = near; i < near + kNear; ++i) {
        F a, b;
        load_wide(key(i) + d, a, b);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) acc[r * kKeys + i] = fma(first[r], a, fma(second[r], b, acc[r * kKeys + i]));
      }
    }
  }
  for (int64_t d = whole; d < headdim; d += kLanes) {
    const int n = int(std::min<int64_t>(headdim - d, kLanes));
#pragma GCC unroll 16
    for (int i = 0; i < kKeys; ++i) {
      const F k = n == kLanes ? load(key(i) + d) : load(key(i) + d, n);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) acc[r * kKeys + i] = fma(load(q + r * width + d), k, acc[r * kKeys + i]);
    }
  }
  if constexpr (kSums * kKeys == kLanes) {
    alignas(64) float all[kLanes];
    store(all, sums(acc));
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) std::memcpy(scores + r * kScoreStride, all + r * kKeys, sizeof(float) * kKeys);
  } else {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) scores[r * kScoreStride] = sum(acc[r]);
  }
}

// scores[r][j] = q_r · k_j; up to kLanes - 1 scores behind them are overwritten.
template <int kRows, class T>
inline void score_rows(const float* q, int64_t width, const RowRun<T>& keys, float* scores) {
  constexpr int kKeys = kKeysOf<kRows>;
  int64_t j = 0;
  for (; j + kKeys <= keys.count; j += kKeys) {
    const T* const p = keys.row(j);
    const int64_t s = keys.stride;
    score_keys<kRows, T>(q, width, keys.headdim, keys.ahead(j), scores + j, [=](int i) { return p + i * s; });
  }
  if (j == keys.count) return;
  const T* rest[kKeys];
  for (int i = 0; i < kKeys; ++i) rest[i] = keys.row(std::min(j + i, keys.count - 1));
  score_keys<kRows, T>(q, width, keys.headdim, keys.ahead(j), scores + j, [&](int i) { return rest[i]; });
}

// out[r] += Σ_j p[r][j] · v_j over keys [begin, end)
template <int kRows, class T>
inline void blend_rows(const float* p, const RowRun<T>& values, int64_t begin, int64_t end, float* out, int64_t width) {
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
      const T* value = values.row(begin) + d;
      for (int64_t j = begin; j < end; ++j, value += values.stride) {
        const int64_t ahead = values.ahead(j);
        F weight[kRows];
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r) weight[r] = set(p[r * kScoreStride + j]);
#pragma GCC unroll 16
        for (int c = 0; c < kCount; ++c) {
          F a, b;
          load_wide(value + c * kWide, a, b);
          fetch_ahead(value + c * kWide, d + c * kWide, ahead);
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
      const F v = n == kLanes ? load(values.row(j) + d) : load(values.row(j) + d, n);
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
