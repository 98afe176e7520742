#include "kernels/product.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Accumulators of a tile: enough to hide the latency of a multiply-add, few enough for the registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kRows = 6, kVectors = 2;
#else
constexpr int kRows = 8, kVectors = 2;
#endif

template <int M, int N>
void tile(int64_t k, Strided a, const float* b, int64_t b_stride, float* c, int64_t c_stride) {
  F acc[M][N];
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) acc[i][j] = load(c + i * c_stride + j * kLanes);
  for (int64_t p = 0; p < k; ++p, b += b_stride) {
    F v[N];
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) v[j] = load(b + j * kLanes);
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) {
      const F s = set(a.data[i * a.row + p * a.column]);
#pragma GCC unroll 2
      for (int j = 0; j < N; ++j) acc[i][j] = fma(s, v[j], acc[i][j]);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < M; ++i)
#pragma GCC unroll 2
    for (int j = 0; j < N; ++j) store(c + i * c_stride + j * kLanes, acc[i][j]);
}

// The same for a number of rows known at run time, 1 … M.
template <int N, int M = kRows>
void tile(int rows, int64_t k, Strided a, const float* b, int64_t b_stride, float* c, int64_t c_stride) {
  if (rows == M) return tile<M, N>(k, a, b, b_stride, c, c_stride);
  if constexpr (M > 1) tile<N, M - 1>(rows, k, a, b, b_stride, c, c_stride);
}

}  // namespace

void add_product(int64_t m, int64_t n, int64_t k, Strided a, const float* b, int64_t b_stride, float* c,
                 int64_t c_stride, bool lower) {
  for (int64_t i = 0; i < m; i += kRows) {
    const int rows = m - i < kRows ? int(m - i) : kRows;
    const int64_t depth = lower && i + rows < k ? i + rows : k;
    const Strided part{a.data + i * a.row, a.row, a.column};
    float* out = c + i * c_stride;
    int64_t j = 0;
    for (; j + kLanes < n; j += kVectors * kLanes)
      tile<kVectors>(rows, depth, part, b + j, b_stride, out + j, c_stride);
    if (j < n) tile<1>(rows, depth, part, b + j, b_stride, out + j, c_stride);
  }
}

}  // namespace statespace::STATESPACE_ISA
