// One instruction set's op table; compiled with the kernels, once per instruction set.
#include "backend/cpu_tables.h"
#include "backend/kernels.h"
#include "kernels/matmul_tiles.h"

#define STATESPACE_STRING_(x) #x
#define STATESPACE_STRING(x) STATESPACE_STRING_(x)

namespace statespace::STATESPACE_ISA {
namespace {

template <class Op>
void invoke(const void* op, Context& cx) {
  run(*static_cast<const Op*>(op), cx);
}

// The same kernels with a matrix unit beside them.
template <class Op, TileUnit kUnit>
void invoke_with(const void* op, Context& cx) {
  Context with = cx;
  with.tiles = kUnit;
  run(*static_cast<const Op*>(op), with);
}

template <TileUnit kUnit, class... Ops>
void fill(Backend& b, OpList<Ops...>) {
  Backend::Run table[] = {(kUnit == TileUnit::none ? invoke<Ops> : invoke_with<Ops, kUnit>)...};
  for (int i = 0; i < kOpCount; ++i) b.run[i] = table[i];
}

}  // namespace

void fill_table(Backend& b) {
  b.name = STATESPACE_STRING(STATESPACE_ISA);
  fill<TileUnit::none>(b, AllOps{});
  b.packed = packed;
  b.pack = pack;
}

#if defined(STATESPACE_TILES)
void fill_tile_table(Backend& b, TileUnit unit) {
  fill_table(b);
  if (unit == TileUnit::amx)
    b.name = "amx", fill<TileUnit::amx>(b, AllOps{});
  else
    b.name = "amx-emulated", fill<TileUnit::emulated>(b, AllOps{});
}

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
#endif

}  // namespace statespace::STATESPACE_ISA
