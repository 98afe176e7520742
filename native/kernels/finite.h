#pragma once
// Whether values are neither infinite nor NaN. A product over a chunk of tokens sums zero times what a later token
// holds, which is NaN where that is not finite: such chunks are computed token by token.
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

inline bool finite(const float* p, int64_t n) {
  F all = zero();  // 0, or NaN
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) all = fma(load(p + i), zero(), all);
  if (i < n) all = fma(load(p + i, int(n - i)), zero(), all);
  return sum(all) == 0;
}

inline bool finite_rows(const float* p, int64_t stride, int64_t rows, int64_t width) {
  for (int64_t t = 0; t < rows; ++t, p += stride)
    if (!finite(p, width)) return false;
  return true;
}

}  // namespace statespace::STATESPACE_ISA
