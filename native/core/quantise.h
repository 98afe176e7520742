#pragma once
// Blocks of 32 values in ggml's q8_0 and q4_0, from f32; lib/dtype.ts encodes to the same bits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "core/halves.h"

namespace statespace {

// d = max|x| / 127, then x / d to the nearest, halves away from zero.
inline void quantise_q8_0(const float* x, uint8_t* block) {
  float largest = 0;
  for (int i = 0; i < kQuantBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = largest / 127, inverse = d == 0 ? 0 : 1 / d;
  const uint16_t scale = f32_to_f16(d);
  std::memcpy(block, &scale, 2);
  for (int i = 0; i < kQuantBlock; ++i) block[2 + i] = uint8_t(int8_t(std::round(x[i] * inverse)));
}

// d = (the value of largest magnitude) / -8, then x / d + 8 in four bits: value i low, value i + 16 high.
inline void quantise_q4_0(const float* x, uint8_t* block) {
  float extreme = 0;
  for (int i = 0; i < kQuantBlock; ++i)
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  const float d = extreme / -8, inverse = d == 0 ? 0 : 1 / d;
  const uint16_t scale = f32_to_f16(d);
  std::memcpy(block, &scale, 2);
  const auto nibble = [&](float v) { return std::clamp(int(v * inverse + 8.5f), 0, 15); };
  for (int i = 0; i < 16; ++i) block[2 + i] = uint8_t(nibble(x[i]) | nibble(x[i + 16]) << 4);
}

inline void quantise_block(DType dtype, const float* x, uint8_t* block) {
  dtype == DType::q8_0 ? quantise_q8_0(x, block) : quantise_q4_0(x, block);
}

}  // namespace statespace
