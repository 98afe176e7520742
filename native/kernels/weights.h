#pragma once
// How weight matrices lie in memory: rows as the checkpoint has them, or panels of kPanel outputs for the tiles.
#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// A tile is kTileRows rows by kPanel outputs: as many accumulators as the registers hold beside the operands.
#if defined(STATESPACE_ISA_AVX512)
constexpr int kTileRows = 14, kTileVectors = 2;
#elif defined(STATESPACE_ISA_AVX2)
constexpr int kTileRows = 6, kTileVectors = 2;
#elif defined(STATESPACE_ISA_NEON)
constexpr int kTileRows = 6, kTileVectors = 4;
#else
constexpr int kTileRows = 2, kTileVectors = 4;
#endif
constexpr int kPanel = kTileVectors * kLanes;

// out (kPanel outputs of panel `p`, as (in, kPanel)) from a weight in rows; outputs past the end are 0.
void gather_panel(const Tensor& weight, int64_t p, float* out);

}  // namespace statespace::STATESPACE_ISA
