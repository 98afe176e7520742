#pragma once
// Products of quantised weights: matmul() hands them on.
#include "kernels/matmul.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

// Rows of int8 that each row of x becomes: 1 rounds it, 2 keep 15 bits, 3 as many as f32 has.
void matmul_quantised(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, int planes,
                      const Epilogue& epilogue, const Rows& y, void* scratch);
int64_t quantised_scratch(int64_t in, int64_t rows);
// All panels in f32: to (panels, in, kPanel).
void widen_panels(const Context& cx, const Matrix& w, float* to);

}  // namespace statespace::STATESPACE_ISA
