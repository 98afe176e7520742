#pragma once
// The micro-kernel: kPanel outputs of up to kTileRows rows, summed over the whole of `in` in registers, in the order of
// k whatever the number of rows.
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

// out (M, kPanel) = x (in, M) times w (in, kPanel)
template <int M>
inline void multiply_tile(const float* x, const float* w, int64_t in, float* out) {
  F acc[M][kTileVectors];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) acc[m][v] = zero();
  for (int64_t k = 0; k < in; ++k, x += M, w += kPanel) {
    F b[kTileVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) b[v] = load(w + v * kLanes);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const F a = set(x[m]);
#pragma GCC unroll 4
      for (int v = 0; v < kTileVectors; ++v) acc[m][v] = fma(a, b[v], acc[m][v]);
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < kTileVectors; ++v) store(out + m * kPanel + v * kLanes, acc[m][v]);
}

// The same for a number of rows known at run time, 1 … kTileRows.
template <int M = kTileRows>
inline void multiply_tile(int rows, const float* x, const float* w, int64_t in, float* out) {
  if (rows == M) return multiply_tile<M>(x, w, in, out);
  if constexpr (M > 1) multiply_tile<M - 1>(rows, x, w, in, out);
}

}  // namespace statespace::STATESPACE_ISA
