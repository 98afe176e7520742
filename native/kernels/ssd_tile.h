#pragma once
// The matrix products of SSD, over local f32 buffers whose rows are filled up with zeros to whole tiles.
#include "isa/simd.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA::ssd {

// A tile's sums fill half of AVX-512's registers, so that chunks of 64 and states of 128 have no partial tiles.
constexpr int kTileHeight = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;
constexpr int64_t round_up(int64_t n, int64_t step) { return (n + step - 1) / step * step; }
// A row or column count that whole tiles and whole vectors cover.
constexpr int64_t padded(int64_t n) { return round_up(round_up(n, kTileHeight), kLanes); }

template <int kVectors>
using Tile = F[kTileHeight][kVectors];

// tile[m][c] += Σ_k a[k][m] · b[k][c]
template <int kVectors>
inline void accumulate(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                       Tile<kVectors>& tile) {
  for (int64_t k = 0; k < depth; ++k, a += a_stride, b += b_stride) {
    F row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kTileHeight; ++m) {
      const F x = set(a[m]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) tile[m][v] = fma(x, row[v], tile[m][v]);
    }
  }
}

// tile[m][c] += Σ_{k≤m} a[k][m] · b[k][c] for k < depth: what stands in a for k > m, and b there, is nobody's sum.
template <int kVectors>
inline void accumulate_lower(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                             Tile<kVectors>& tile) {
#pragma GCC unroll 8
  for (int k = 0; k < kTileHeight; ++k, a += a_stride, b += b_stride) {
    if (k >= depth) return;
    F row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int m = k; m < kTileHeight; ++m) {
      const F x = set(a[m]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) tile[m][v] = fma(x, row[v], tile[m][v]);
    }
  }
}

// From rows of a: tile[m][c] += Σ_k a[m][k] · b[k][c]
template <int kVectors>
inline void accumulate_rows(const float* a, int64_t a_stride, const float* b, int64_t b_stride, int64_t depth,
                            Tile<kVectors>& tile) {
  for (int64_t k = 0; k < depth; ++k, ++a, b += b_stride) {
    F row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + v * kLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kTileHeight; ++m) {
      const F x = set(a[m * a_stride]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) tile[m][v] = fma(x, row[v], tile[m][v]);
    }
  }
}

// tile[m][v] = fn(m, v) for every vector of it.
template <int kVectors, class Fn>
inline void each_vector(Fn&& fn) {
#pragma GCC unroll 8
  for (int m = 0; m < kTileHeight; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) fn(m, v);
}

// Calls fn.operator()<kVectors>(column) for columns [begin, end), of which end is a multiple of kLanes.
template <class Fn>
inline void column_panels(int64_t begin, int64_t end, Fn&& fn) {
  int64_t c = begin;
  for (; c + 2 * kLanes <= end; c += 2 * kLanes) fn.template operator()<2>(c);
  if (c < end) fn.template operator()<1>(c);
}

// out (rows, cols) = in (cols, rows), both contiguous in their last axis with the given strides; what is left of
// out's rows up to `width` becomes zero.
inline void transpose(const float* in, int64_t in_stride, int64_t rows, int64_t cols, float* out, int64_t out_stride,
                      int64_t width) {
  for (int64_t c = 0; c < width; c += kLanes)
    for (int64_t r = 0; r < rows; r += kLanes) {
      const int height = lanes_of(rows - r), columns = lanes_of(width - c);
      F square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) square[i] = c + i < cols ? load(in + (c + i) * in_stride + r, height) : zero();
      STATESPACE_ISA::transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i)
        if (i < height) store(out + (r + i) * out_stride + c, square[i], columns);
    }
}

}  // namespace statespace::STATESPACE_ISA::ssd
