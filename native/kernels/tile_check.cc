// Whether the machine's unit of tiles multiplies as the one in memory does; asked once before it is chosen.
#include "backend/cpu_tables.h"
#include "kernels/matmul_int8_tiles.h"
#include "kernels/matmul_tiles.h"

#if defined(STATESPACE_TILES)
namespace statespace::STATESPACE_ISA {
namespace {

// Products of bytes are exact: both give the same bits.
template <int kHalves>
bool bytes_agree() {
  using W = Unpacked<kHalves, false>;
  constexpr int64_t kIn = 96, kWords = kIn / 32 * kTileSide * (9 + kHalves), kBytes = kIn / 32 * W::kBytes;
  int32_t x[kWords];
  alignas(64) uint8_t panel[kBytes];
  uint32_t random = 1;
  for (int32_t& word : x) word = int32_t(random = random * 1664525 + 1013904223);
  for (uint8_t& byte : panel) byte = uint8_t((random = random * 1664525 + 1013904223) >> 24);
  for (int64_t b = 0; b < kIn / 32; ++b) {  // scales that are numbers
    for (int i = 0; i < kTileSide; ++i) {
      const float scale = 1 + float(i) / 16;
      std::memcpy(x + b * kTileSide * (9 + kHalves) + 8 * kTileSide + i, &scale, 4);
      for (int h = 0; h < kHalves; ++h) x[(b * (9 + kHalves) + 9 + h) * kTileSide + i] >>= 8;
    }
    auto* scales = reinterpret_cast<float*>(panel + b * W::kBytes + 32 * kPanel);
    for (int i = 0; i < kHalves * kPanel; ++i) scales[i] = 1 - float(i) / 128;
  }
  float got[kTileSide * kPanel], want[kTileSide * kPanel];
  AmxTiles::begin_bytes(8 / kHalves);
  multiply_int8_tiles<AmxTiles, W>(x, panel, kIn, got);
  AmxTiles::end();
  EmulatedTiles::begin_bytes(8 / kHalves);
  multiply_int8_tiles<EmulatedTiles, W>(x, panel, kIn, want);
  return std::memcmp(got, want, sizeof got) == 0;
}

}  // namespace

bool tiles_agree() {
  if (amx_has_int8() && !(bytes_agree<1>() && bytes_agree<2>())) return false;
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
