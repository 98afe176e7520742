#pragma once
// Products of bf16 by bf16, summed in f32 by the instruction for it: x is rounded to bf16.
#include "kernels/matmul_tile.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_BF16_DOT)

// out (M, P · kPanel) = x (in/2, M) pairs times P neighbouring packed panels of bf16
template <int M, int P, bool kFirst>
STATESPACE_BF16_DOT inline void multiply_pairs(const uint32_t* x, const uint8_t* panel, int64_t stride, int64_t in,
                                               float* out, Ahead ahead = {}) {
  constexpr int V = kTileVectors;
  F acc[P][M][V];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) acc[p][m][v] = zero();
  for (int64_t k = 0; k < in; ahead.next += 64) {
    prefetch(ahead.next);
    const int64_t end = in - k < ahead.every ? in : k + ahead.every;
    for (; k < end; k += 2, x += M, panel += 4 * kPanel) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        fetch_far<kFirst>(panel + p * stride);
        Pairs b[V];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) b[v] = load_pairs(panel + p * stride + v * 4 * kLanes);
#pragma GCC unroll 16
        for (int m = 0; m < M; ++m) {
          const Pairs a = set_pair(x[m]);
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) acc[p][m][v] = dot_pairs(acc[p][m][v], a, b[v]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) store(out + (m * P + p) * kPanel + v * kLanes, acc[p][m][v]);
}

// The same for a number of rows known at run time, 1 … kTileRows.
template <bool kFirst, int M = kTileRows>
inline void multiply_pairs(int rows, const uint32_t* x, const uint8_t* panel, int64_t in, float* out, Ahead ahead) {
  if (rows == M) return multiply_pairs<M, 1, kFirst>(x, panel, 0, in, out, ahead);
  if constexpr (M > 1) multiply_pairs<kFirst, M - 1>(rows, x, panel, in, out, ahead);
}

#endif

}  // namespace statespace::STATESPACE_ISA
