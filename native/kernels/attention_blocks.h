#pragma once
// The tiles of attention over bf16 keys and values on a matrix unit: blocks of 32 rows by 32 keys or channels. Packing,
// rounding and what is multiplied row by row are those of attention_pairs.h.
#include "kernels/attention_pairs.h"
#include "kernels/tile_block.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_TILES)

template <class Unit>
struct UnitTiles : PairTiles {
  static constexpr int kRows = kBlockSide;
  static constexpr int kTogether = kTileDepth;

  static void begin() { Unit::begin(); }
  static void end() { Unit::end(); }

  // Pairs of channels, filled up to whole tiles.
  static int64_t words(int64_t headdim) { return round_up(PairTiles::words(headdim), kTileSide); }
  static int64_t query_at(int64_t headdim, int64_t r, int64_t d) { return r * 2 * words(headdim) + d; }

  static void pack_keys(const bf16_t* const* rows, int64_t keys, int64_t headdim, float* packed) {
    PairTiles::pack_keys(rows, keys, headdim, words(headdim), packed);
  }

  static void score(const float* q, const float* keys, int64_t headdim, int64_t begin, int64_t end, float* scores) {
    const int64_t depth = words(headdim);
    for (int64_t j = begin; j < end; j += kWide)
      multiply_block<Unit, 2, false>({q, depth * 4}, {keys + j * depth, kWide * 4}, depth / kTileSide, scores + j,
                                     kScoreStride * 4);
  }

  // begin and end are multiples of kTogether.
  static void blend(const float* weights, const float* values, int64_t headdim, int64_t begin, int64_t end,
                    const float* shrink, float* out, int64_t width) {
    for (int r = 0; r < kRows; ++r)
      for (int64_t d = 0; d < width; d += kLanes)
        store(out + r * width + d, set(shrink[r]) * load(out + r * width + d));
    const TileRows p{weights + begin / 2, kScoreStride * 4};
    const int64_t steps = (end - begin) / kTileDepth;
    for (int64_t d = 0; d < headdim; d += kWide) {
      const TileRows v{values + d / 2 * kBlockKeys + begin / 2 * kWide, kWide * 4};
      headdim - d > kLanes ? multiply_block<Unit, 2, true>(p, v, steps, out + d, width * 4)
                           : multiply_block<Unit, 1, true>(p, v, steps, out + d, width * 4);
    }
  }
};

#endif

}  // namespace statespace::STATESPACE_ISA
