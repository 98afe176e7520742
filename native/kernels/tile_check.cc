// Whether the machine's unit of tiles multiplies as the one in memory does; asked once before it is chosen.
#include "backend/cpu_tables.h"
#include "kernels/matmul_tiles.h"

#if defined(STATESPACE_TILES)
namespace statespace::STATESPACE_ISA {

bool tiles_agree() {
  constexpr int64_t kSteps = 3, kRows = 2 * kTileSide;
  uint8_t x[kRows * kSteps * kTileBytes], panel[kSteps * kTileSide * 4 * kPanel];
  uint32_t random = 1;
  auto fill_halves = [&](uint8_t* to, int64_t bytes) {
    for (int64_t i = 0; i < bytes; i += 2) {
      bf16_t half;
      random = random * 1664525 + 1013904223;
      from_float(float(int32_t(random >> 16) - 32768) / 32768, half);
      std::memcpy(to + i, &half, 2);
    }
  };
  fill_halves(x, sizeof(x)), fill_halves(panel, sizeof(panel));
  const uint8_t* tail = panel + (kSteps - 1) * kTileSide * 4 * kPanel;
  float got[kRows * kPanel], want[kRows * kPanel];
  AmxTiles::begin();
  multiply_tiles<AmxTiles, 2>(x, panel, tail, kSteps, got);
  AmxTiles::end();
  EmulatedTiles::begin();
  multiply_tiles<EmulatedTiles, 2>(x, panel, tail, kSteps, want);
  for (int i = 0; i < kRows * kPanel; ++i)
    if (!(std::fabs(got[i] - want[i]) < 1e-3f)) return false;
  return true;
}

}  // namespace statespace::STATESPACE_ISA
#endif
