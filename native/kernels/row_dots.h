#pragma once
// Products of a few rows with each other, by dot products of vectors: no operand is laid out anew for them.
#include <cstring>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// Sides of a block of such products: as many sums as there are registers for.
constexpr int kDotRows = 4, kDotColumns = kLanes == 16 || kLanes == 4 ? 4 : 2;

// to (t, s) = x_t · y_s for kDotRows rows of x and kDotColumns of y, `width` floats in whole vectors, `apart` from row
// to row.
inline void block_of_dots(const float* x, const float* y, int64_t width, int64_t apart, float* to, int64_t stride) {
  constexpr int kDots = kDotRows * kDotColumns, kVectors = kDots / kLanes;
  F dots[kVectors][kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kDots; ++i) dots[i / kLanes][i % kLanes] = zero();
  for (int64_t i = 0; i < width; i += kLanes) {
    F b[kDotColumns];
#pragma GCC unroll 4
    for (int s = 0; s < kDotColumns; ++s) b[s] = load(y + s * apart + i);
#pragma GCC unroll 4
    for (int t = 0; t < kDotRows; ++t) {
      const F a = load(x + t * apart + i);
#pragma GCC unroll 4
      for (int s = 0; s < kDotColumns; ++s) {
        F& dot = dots[(t * kDotColumns + s) / kLanes][(t * kDotColumns + s) % kLanes];
        dot = fma(a, b[s], dot);
      }
    }
  }
  alignas(64) float out[kDots];
#pragma GCC unroll 16
  for (int i = 0; i < kVectors; ++i) store(out + i * kLanes, sums(dots[i]));
  for (int t = 0; t < kDotRows; ++t) std::memcpy(to + t * stride, out + t * kDotColumns, kDotColumns * sizeof(float));
}

}  // namespace statespace::STATESPACE_ISA
