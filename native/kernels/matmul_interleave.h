#pragma once
// The left side of a product as its tiles read it: a few rows, interleaved.
#include <type_traits>

#include "kernels/matmul.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {
namespace {  // so that what common templates make of its loops is no symbol of theirs

// Heights that nearly all tiles have as constants: their squares of vectors are transposed in registers.
template <class Fn>
void with_height(int m, Fn&& fn) {
  if (m == kTileRows) return fn(std::integral_constant<int, kTileRows>());
  if (m == kTileRows - 1) return fn(std::integral_constant<int, kTileRows - 1>());
  fn(m);
}

// to (n, m) = the columns of m rows whose next vectors are value(i): squares of vectors, transposed. Whole vectors are
// stored, each over the lanes past m that the one before it left; the last ones must not reach past the end.
template <class Fn>
void interleave_square(int m, int n, float* to, bool last, Fn&& value) {
  constexpr int kGroups = (kTileRows + kLanes - 1) / kLanes;
  F rows[kGroups][kLanes];
  const int groups = (m + kLanes - 1) / kLanes;
  for (int g = 0; g < groups; ++g) {
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[g][i] = g * kLanes + i < m ? value(g * kLanes + i) : zero();
    transpose(rows[g]);
  }
  for (int k = 0; k < n; ++k, to += m)
    for (int g = 0; g < groups; ++g) {
      const int lanes = m - g * kLanes < kLanes ? m - g * kLanes : kLanes;
      if (lanes < kLanes && last)
        store(to + g * kLanes, rows[g][k], lanes);
      else
        store(to + g * kLanes, rows[g][k]);
    }
}

// The same of kLanes columns with more behind them, where a tile's rows are no more than a vector's lanes. Nothing is
// taken by an index that varies, which would keep the square in memory.
template <class Height, class Fn>
void interleave_whole_square(Height m, float* to, Fn&& value) {
  F rows[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) rows[i] = i < m ? value(i) : zero();
  transpose(rows);
#pragma GCC unroll 16
  for (int k = 0; k < kLanes; ++k) store(to + k * m, rows[k]);
}

// to (in, m) = columns [from, from + in) of rows [first, first + m) of x
template <class T>
void interleave(const Rows& x, int64_t first, int m, int64_t in, float* to, int64_t from = 0) {
  const T* rows[(kTileRows + kLanes - 1) / kLanes * kLanes];
  for (int i = 0; i < m; ++i) rows[i] = x.row<T>(first + i) + from;
  int64_t k = 0;
  for (; m == 1 && k + kLanes <= in; k += kLanes) store(to + k, load(rows[0] + k));
  if constexpr (kTileRows <= kLanes)
    with_height(m, [&](auto height) {
      for (; k + 2 * kLanes <= in; k += kLanes)
        interleave_whole_square(height, to + k * m, [&](int i) {
          prefetch(rows[i] + k + 4 * kLanes);
          return load(rows[i] + k);
        });
    });
  for (; k + kLanes <= in; k += kLanes)
    interleave_square(m, kLanes, to + k * m, k + 2 * kLanes > in, [&](int i) { return load(rows[i] + k); });
  for (; k < in; ++k)
    for (int i = 0; i < m; ++i) to[k * m + i] = to_float(rows[i][k]);
  if (in % 2)  // the other half of bf16's last pair
    for (int i = 0; i < m; ++i) to[in * m + i] = 0;
}

#if defined(STATESPACE_BF16_DOT)
// The same as pairs of bf16: to (in/2, m)
template <class T>
void interleave_pairs(const Rows& x, int64_t first, int m, int64_t in, float* to, int64_t from = 0) {
  constexpr int kStep = 2 * kLanes;
  const T* rows[(kTileRows + kLanes - 1) / kLanes * kLanes];
  for (int i = 0; i < m; ++i) rows[i] = x.row<T>(first + i) + from;
  int64_t k = 0;
  if constexpr (kTileRows <= kLanes)
    with_height(m, [&](auto height) {
      for (; k + 2 * kStep <= in; k += kStep)
        interleave_whole_square(height, to + k / 2 * m,
                                [&](int i) { return bf16_pairs(load(rows[i] + k), load(rows[i] + k + kLanes)); });
    });
  for (; k < in; k += kStep) {
    const int64_t left = in - k;
    auto part = [&](int i, int64_t at) {
      const int64_t n = left - at;
      return n >= kLanes ? load(rows[i] + k + at) : n > 0 ? load(rows[i] + k + at, int(n)) : zero();
    };
    if (m == 1 && left >= kStep) {
      store(to + k / 2, bf16_pairs(part(0, 0), part(0, kLanes)));
      continue;
    }
    const int pairs = left >= kStep ? kLanes : int((left + 1) / 2);
    interleave_square(m, pairs, to + k / 2 * m, left < 2 * kStep,
                      [&](int i) { return bf16_pairs(part(i, 0), part(i, kLanes)); });
  }
}
#endif

}  // namespace
}  // namespace statespace::STATESPACE_ISA
