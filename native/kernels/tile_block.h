#pragma once
// A block of 32 rows on a matrix unit of tiles, over operands with strides of their own.
#include "isa/amx.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_TILES)

// Rows from `data` on, `stride` bytes apart.
struct TileRows {
  const void* data;
  int64_t stride;
  const char* at(int64_t row, int64_t byte = 0) const { return static_cast<const char*>(data) + row * stride + byte; }
};

constexpr int64_t kBlockSide = 2 * kTileSide;

// c (32, kColumns · 16) = a (32, 32 · steps) · b, added to what c holds where kAdd. a: rows of bf16; b: rows of pairs
// of neighbouring inputs, (16 · steps, kColumns · 16, 2); c: rows of f32, c_stride bytes apart. Uses tiles 0 … 7.
template <class Unit, int kColumns, bool kAdd>
void multiply_block(TileRows a, TileRows b, int64_t steps, float* c, int64_t c_stride) {
  static_assert(kColumns == 1 || kColumns == 2);
  const auto part = [&](int row, int column) {
    return reinterpret_cast<float*>(reinterpret_cast<char*>(c) + row * kTileSide * c_stride) + column * kTileSide;
  };
  if constexpr (kAdd) {
    Unit::template load<0>(part(0, 0), c_stride), Unit::template load<2>(part(1, 0), c_stride);
    if constexpr (kColumns == 2)
      Unit::template load<1>(part(0, 1), c_stride), Unit::template load<3>(part(1, 1), c_stride);
  } else {
    Unit::template zero<0>(), Unit::template zero<2>();
    if constexpr (kColumns == 2) Unit::template zero<1>(), Unit::template zero<3>();
  }
  for (int64_t s = 0; s < steps; ++s) {
    Unit::template load<4>(a.at(0, s * kTileBytes), a.stride);
    Unit::template load<6>(b.at(s * kTileSide), b.stride);
    Unit::template dot<0, 4, 6>();
    Unit::template load<5>(a.at(kTileSide, s * kTileBytes), a.stride);
    Unit::template dot<2, 5, 6>();
    if constexpr (kColumns == 2) {
      Unit::template load<7>(b.at(s * kTileSide, kTileBytes), b.stride);
      Unit::template dot<1, 4, 7>();
      Unit::template dot<3, 5, 7>();
    }
  }
  Unit::template store<0>(part(0, 0), c_stride), Unit::template store<2>(part(1, 0), c_stride);
  if constexpr (kColumns == 2)
    Unit::template store<1>(part(0, 1), c_stride), Unit::template store<3>(part(1, 1), c_stride);
}

#endif

}  // namespace statespace::STATESPACE_ISA
