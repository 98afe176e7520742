#pragma once
// Small matrix products on one thread, for the chunked forms: chunks of tokens against a head's state.
#include <cstdint>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// Element (i, p) is data[i·row + p·column]: a matrix of any layout, or its transpose.
struct Strided {
  const float* data;
  int64_t row, column;
};

// C (m, n) += A (m, k) · B (k, n). B and C are row-major with strides of whole vectors, and are read and written up to
// the end of the vector that holds column n - 1. lower: A is lower triangular (with zeros above its diagonal), which
// saves most of the upper half's work.
void add_product(int64_t m, int64_t n, int64_t k, Strided a, const float* b, int64_t b_stride, float* c,
                 int64_t c_stride, bool lower = false);

}  // namespace statespace::STATESPACE_ISA
