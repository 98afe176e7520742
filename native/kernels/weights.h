#pragma once
// How weight matrices lie in memory: rows as the checkpoint has them (Layout::rows), or packed for the tiles.
//
// A weight (…, out, in) is one matrix per step of its leading axes (experts). Packed, each matrix is its panels one
// after the other; a panel is kPanel outputs side by side:
//   f32, f16   (in, kPanel)
//   bf16       (in/2, kPanel, 2): neighbours along `in` lie together, as the bf16 dot instructions read them
//   quantised  kernels/quantised_panels.h
// Outputs and inputs past the end are 0.
#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace {
struct Context;
}

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

// One matrix of a weight, in either layout.
struct Matrix {
  const uint8_t* data;
  int64_t out, in;
  int64_t row_stride;  // rows: elements
  DType dtype;
  Layout layout;

  int64_t panels() const { return (out + kPanel - 1) / kPanel; }
  const uint8_t* panel(int64_t p) const;
};

// Matrix `i` of a weight of rank 2 or more.
Matrix matrix_of(const Tensor& weight, int64_t i = 0);
int64_t panel_bytes(DType dtype, int64_t in);
inline const uint8_t* Matrix::panel(int64_t p) const { return data + p * panel_bytes(dtype, in); }

// Panel `p` of a matrix in rows, as it lies in a packed one.
void pack_panel(const Matrix& rows, int64_t p, uint8_t* out);

}  // namespace statespace::STATESPACE_ISA
