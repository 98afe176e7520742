#pragma once
// Products in int8 by squares of two rows and two outputs, NEON's smmla: twice the products of an instruction, for an
// unpacked panel whose codes lie by twos.
#include "kernels/matmul_int8_unpacked.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_SQUARES)

constexpr int kSquareRows = 4;

// out (M, kPanel) = M rows of x times an unpacked panel, two vectors of outputs at a time.
template <int M, class W>
void multiply_squares(const int32_t* x, const uint8_t* w, int64_t in, float* out, NextPanel next) {
  constexpr int V = kTileVectors, kHalves = W::kHalves, kSteps = 4 / kHalves;
  constexpr bool kMin = W::kMin;
  F acc[M][V];
  for (auto& row : acc)
    for (F& sum : row) sum = zero();
  for (int64_t k = 0; k < in; k += 32, x += M * (9 + kHalves), w += W::kBytes) {
    next.fetch();
    const float* scales = reinterpret_cast<const float*>(x + 8 * M);
#pragma GCC unroll 2
    for (int h = 0; h < kHalves; ++h)
#pragma GCC unroll 2
      for (int v = 0; v < V; v += 2) {
        Ints squares[M / 2][4];
        for (auto& row : squares)
          for (Ints& square : row) square = set_int(0);
#pragma GCC unroll 4
        for (int j = h * kSteps; j < (h + 1) * kSteps; ++j) {
          Bytes q[4];
#pragma GCC unroll 4
          for (int c = 0; c < 4; ++c) q[c] = load_bytes(w + ((j * V + v) * 2 + c) * kByteLanes);
#pragma GCC unroll 2
          for (int i = 0; i < M / 2; ++i) {
            const Bytes a = load_bytes(x + (i * 4 + j) * 4);
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) squares[i][c] = add_square(squares[i][c], a, q[c]);
          }
        }
#pragma GCC unroll 2
        for (int u = 0; u < 2; ++u) {
          const F scale = W::scale(w, h, v + u);
          F min;
          if constexpr (kMin) min = W::min(w, h, v + u);
          const auto add = [&](int m, Ints sums) {
            F& to = acc[m][v + u];
            if constexpr (!kMin) sums = sums + set_int(x[(9 + h) * M + m]);
            to = fma(to_float(sums) * set(scales[m]), scale, to);
            if constexpr (kMin) to = fnma(set(scales[(1 + h) * M + m]), min, to);
          };
#pragma GCC unroll 2
          for (int i = 0; i < M / 2; ++i) {
            const Ints* at = squares[i] + 2 * u;
            add(2 * i, first_row(at[0], at[1])), add(2 * i + 1, second_row(at[0], at[1]));
          }
        }
      }
  }
  for (int m = 0; m < M; ++m)
    for (int v = 0; v < V; ++v) store(out + m * kPanel + v * kLanes, acc[m][v]);
}

#endif

}  // namespace statespace::STATESPACE_ISA
