#pragma once
// Matrix products on one thread, for the chunked forms: chunks of tokens against a head's state. A tile of the result
// stays in registers while products are added to it and while it is scaled, and is written once.
#include <cstdint>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// Rows of a tile of two vectors: enough sums to hide the latency of a multiply-add, few enough for the registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kRows = 6;
#else
constexpr int kRows = 8;
#endif

// The rows that a matrix of n needs room for.
constexpr int64_t whole_tiles(int64_t n) { return (n + kRows - 1) / kRows * kRows; }

// Element (i, p) is data[i·row + p·column]: a matrix of any layout, or its transpose.
struct Strided {
  const float* data;
  int64_t row, column;
};

// Rows [row, row + rows) of a result and N vectors of its columns from `column` on. kWhole: known to be kRows rows.
template <int N, bool kWhole = false>
struct Place {
  int64_t row, column;
  int rows;
};

// The values there, 0 at first. Matrices are given whole, as seen from the result's first row and column. They are read
// in whole tiles, whatever lies behind their last row: scratch has room for that (whole_tiles). Row-major ones have
// strides of whole vectors and are read, and written where no width is given, up to the end of the last vector.
template <int N, bool kWhole = false>
struct Tile {
  [[gnu::always_inline]] explicit Tile(Place<N, kWhole> p)
      : row(p.row), column(p.column), rows(kWhole ? kRows : p.rows) {
    each([](int, int, F& x) { x = zero(); });
  }

  // += A B, of which `depth` columns and rows.
  [[gnu::always_inline]] void add(int64_t depth, Strided a, const float* b, int64_t b_stride) {
    add(depth, a, b, b_stride, [] {});
  }
  // The same, and between() once for each of them.
  template <class Between>
  [[gnu::always_inline]] void add(int64_t depth, Strided a, const float* b, int64_t b_stride, Between between) {
    const float* from = a.data + row * a.row;
    b += column;
    for (int64_t p = 0; p < depth; ++p, from += a.column, b += b_stride) {
      between();
      F x[N];
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) x[j] = load(b + j * kLanes);
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const F s = set(from[i * a.row]);
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) v[i][j] = fma(s, x[j], v[i][j]);
      }
    }
  }
  // += L B for a lower triangular L, from its diagonal (kFrom = 0) or the one below it (1) on, or with blocks of
  // (kRank, kRank) on its diagonal. A row is a sum over the rows of B up to its own, and no more: zeros times what
  // later tokens hold would be NaN where that is not finite.
  template <int kFrom = 0, int kRank = 1>
  [[gnu::always_inline]] void add_lower(Strided L, const float* b, int64_t b_stride) {
    add(row, L, b, b_stride);
    const float* block = L.data + row * (L.row + L.column);
    b += row * b_stride + column;
#pragma GCC unroll 8
    for (int s = 0; s < kRows - kFrom; ++s, b += b_stride) {
      if (s >= rows) return;
      F x[N];
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) x[j] = load(b + j * kLanes);
#pragma GCC unroll 8
      for (int i = s / kRank * kRank + kFrom; i < kRows; ++i) {
        const F l = set(block[i * L.row + s * L.column]);
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) v[i][j] = fma(l, x[j], v[i][j]);
      }
    }
  }
  // The same for any rank, where blocks may reach beyond the tile.
  [[gnu::always_inline]] void add_lower_blocks(int64_t rank, Strided L, const float* b, int64_t b_stride) {
    int64_t s = row / rank * rank;
    add(s, L, b, b_stride);
    const float* from = L.data + row * L.row + s * L.column;
    b += s * b_stride + column;
    for (int64_t first = s - row; first < rows; first += rank)
      for (int64_t r = 0; r < rank; ++r, from += L.column, b += b_stride) {
        F x[N];
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) x[j] = load(b + j * kLanes);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) {
          if (i < first) continue;
          const F l = set(from[i * L.row]);
#pragma GCC unroll 2
          for (int j = 0; j < N; ++j) v[i][j] = fma(l, x[j], v[i][j]);
        }
      }
  }
  // Rows by a factor each, the whole by one, elements by those of a matrix.
  [[gnu::always_inline]] void scale_rows(const float* factors, int64_t stride = 1) {
    each([&](int i, int, F& x) { x = set(factors[(row + i) * stride]) * x; });
  }
  [[gnu::always_inline]] void scale(float factor) {
    each([&](int, int, F& x) { x = set(factor) * x; });
  }
  [[gnu::always_inline]] void times(const float* m, int64_t stride) {
    each([&](int i, int j, F& x) { x = x * load(place(m, i, j, stride)); });
  }

  // x = (I - L)⁻¹ x for a strictly lower L and these rows of x, the rows above being solved.
  [[gnu::always_inline]] void solve_unit_lower(Strided L, const float* x, int64_t stride) {
    add(row, L, x, stride);
    const float* block = L.data + row * (L.row + L.column);
#pragma GCC unroll 8
    for (int s = 0; s < kRows; ++s)
#pragma GCC unroll 8
      for (int i = s + 1; i < kRows; ++i)
#pragma GCC unroll 2
        for (int j = 0; j < N; ++j) v[i][j] = fma(set(block[i * L.row + s * L.column]), v[s][j], v[i][j]);
  }

  [[gnu::always_inline]] void read(const float* from, int64_t stride) {
    each([&](int i, int j, F& x) { x = load(place(from, i, j, stride)); });
  }
  // m - x, of m the first `width` columns.
  [[gnu::always_inline]] void subtract_from(const float* m, int64_t stride, int64_t width) {
    if (rows == kRows && width - column >= N * kLanes)
      return each([&](int i, int j, F& x) { x = load(place(m, i, j, stride)) - x; });
    each([&](int i, int j, F& x) {
      const int64_t left = width - column - j * kLanes;
      if (i >= rows || left <= 0) return;
      const float* from = place(m, i, j, stride);
      x = (left >= kLanes ? load(from) : load(from, int(left))) - x;
    });
  }
  // += rows of m by a factor each, of m the first `width` columns.
  [[gnu::always_inline]] void add_scaled(const float* factors, const float* m, int64_t stride, int64_t width) {
    if (rows == kRows && width - column >= N * kLanes)
      return each([&](int i, int j, F& x) { x = fma(set(factors[row + i]), load(place(m, i, j, stride)), x); });
    each([&](int i, int j, F& x) {
      const int64_t left = width - column - j * kLanes;
      if (i >= rows || left <= 0) return;
      const float* from = place(m, i, j, stride);
      x = fma(set(factors[row + i]), left >= kLanes ? load(from) : load(from, int(left)), x);
    });
  }
  // A whole tile without a look at its rows: the sixteen branches cost a tile of depth 16 a fifth of its time.
  [[gnu::always_inline]] void write(float* to, int64_t stride) {
    if (rows == kRows) return each([&](int i, int j, F& x) { store(place(to, i, j, stride), x); });
    each([&](int i, int j, F& x) {
      if (i < rows) store(place(to, i, j, stride), x);
    });
  }
  [[gnu::always_inline]] void write(float* to, int64_t stride, int64_t width) {
    if (width - column >= N * kLanes) return write(to, stride);
    each([&](int i, int j, F& x) {
      const int64_t left = width - column - j * kLanes;
      if (i >= rows || left <= 0) return;
      if (left >= kLanes)
        store(place(to, i, j, stride), x);
      else
        store(place(to, i, j, stride), x, int(left));
    });
  }

  // fn(i, j, vector j of row i) of the tile.
  template <class Fn>
  [[gnu::always_inline]] void each(Fn&& fn) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) fn(i, j, v[i][j]);
  }
  // One past the last row.
  int64_t end() const { return row + rows; }
  template <class T>
  T* place(T* m, int i, int j, int64_t stride) const {
    return m + (row + i) * stride + column + j * kLanes;
  }

  F v[kRows][N];
  const int64_t row, column;
  const int rows;
};

// What loops over tiles is [[gnu::flatten]]: as a function of its own a tile of depth 16 takes 2900 cycles where it
// takes 2160 inlined.

// fn(place) for the tiles of rows [row, row + rows) and columns up to `end`.
template <class Fn>
inline void each_tile_of_row(int64_t row, int rows, int64_t end, Fn&& fn) {
  int64_t column = 0;
  for (; column + kLanes < end; column += 2 * kLanes) fn(Place<2>{row, column, rows});
  if (column < end) fn(Place<1>{row, column, rows});
}

// fn(place) for the tiles of a result (m, n), rows first; of a lower triangular one (n, n) for those that the diagonal
// crosses or that lie below it.
template <class Fn>
inline void each_tile(int64_t m, int64_t n, Fn&& fn) {
  for (int64_t row = 0; row < m; row += kRows) each_tile_of_row(row, m - row < kRows ? int(m - row) : kRows, n, fn);
}
template <class Fn>
inline void each_lower_tile(int64_t n, Fn&& fn) {
  for (int64_t row = 0; row < n; row += kRows) {
    const int rows = n - row < kRows ? int(n - row) : kRows;
    each_tile_of_row(row, rows, row + rows, fn);
  }
}

// C (m, n) += A (m, k) · B (k, n).
void add_product(int64_t m, int64_t n, int64_t k, Strided a, const float* b, int64_t b_stride, float* c,
                 int64_t c_stride);

}  // namespace statespace::STATESPACE_ISA
