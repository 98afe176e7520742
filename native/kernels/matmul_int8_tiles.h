#pragma once
// Products in int8 on a matrix unit of tiles: 16 rows of x by 16 outputs for the inputs that share a scale, 32 or 16 of
// them; the vectors add what a tile sums, scaled. Rows and panels lie as for the vectors, in tiles of 16 rows.
#include "isa/amx.h"
#include "kernels/matmul_int8_unpacked.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_TILES)

// Fewer rows of int8 leave too much of a tile empty; the vectors multiply those.
constexpr int64_t kLeastInt8TileRows = 8;

// out (16, kPanel) = 16 rows of x times a panel. The unit has begun with begin_bytes(8 / W::kHalves).
template <class Unit, class W>
void multiply_int8_tiles(const int32_t* x, const uint8_t* w, int64_t in, float* out, NextPanel next = {}) {
  constexpr int kHalves = W::kHalves, kGroups = 8 / kHalves, kRows = kTileSide;
  static_assert(kLanes == kTileSide);
  alignas(64) int32_t sums[2][kRows * kLanes];
  const int64_t steps = in / 32 * kHalves;
  const auto rows_at = [&](int64_t s) { return x + s / kHalves * kRows * (9 + kHalves); };
  const auto panel_at = [&](int64_t s) { return w + s / kHalves * W::kBytes; };
  for (int v = 0; v < kTileVectors; ++v) {
    const auto multiply = [&]<int T>(int64_t s) {
      const int h = int(s % kHalves);
      Unit::template zero<T>();
      Unit::template load<T + 1>(rows_at(s) + h * kGroups, 32);
      Unit::template load<T + 2>(W::at(panel_at(s), v) + h * kGroups * W::kNext, W::kNext);
      Unit::template dot_bytes<T, T + 1, T + 2>();
      Unit::template store<T>(sums[T / 3], 4 * kLanes);
    };
    F acc[kRows];
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) acc[m] = zero();
    multiply.template operator()<0>(0);
    for (int64_t s = 0; s < steps; ++s) {
      next.fetch();
      // The unit is a step ahead, in tiles and memory of its own: what it stores is read only once it has been written.
      if (s + 1 < steps) s % 2 ? multiply.template operator()<0>(s + 1) : multiply.template operator()<3>(s + 1);
      const int h = int(s % kHalves);
      const int32_t* block = rows_at(s);
      const float* scales = reinterpret_cast<const float*>(block + 8 * kRows);
      const F scale = W::scale(panel_at(s), h, v);
      F min;
      if constexpr (W::kMin) min = W::min(panel_at(s), h, v);
#pragma GCC unroll 16
      for (int m = 0; m < kRows; ++m) {
        Ints sum = load_ints(sums[s % 2] + m * kLanes);
        if constexpr (!W::kMin) sum = sum + set_int(block[(9 + h) * kRows + m]);
        acc[m] = fma(to_float(sum) * set(scales[m]), scale, acc[m]);
        if constexpr (W::kMin) acc[m] = fnma(set(scales[(1 + h) * kRows + m]), min, acc[m]);
      }
    }
#pragma GCC unroll 16
    for (int m = 0; m < kRows; ++m) store(out + m * kPanel + v * kLanes, acc[m]);
  }
}

#endif

}  // namespace statespace::STATESPACE_ISA
