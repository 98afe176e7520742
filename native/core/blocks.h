#pragma once
// ggml's quantised blocks: the one place that knows their bytes. A row is whole blocks, one after the other; a block
// begins at any alignment.
#include <cstdint>

#include "core/tensor.h"

namespace statespace {

// out = `count` values (whole blocks) of f32, f16, bf16 or any quantised type, as ggml decodes them, bit for bit.
// Denormals must not be flushed: an mxfp4 block may hold some.
void decode_blocks(DType type, const uint8_t* blocks, int64_t count, float* out);

// Whether a device's products read it (cuda/weights.h) as well as the CPU's.
constexpr bool is_held_on_device(DType t) {
  return is_held(t) &&
         (!is_quantised(t) || t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_k || t == DType::q6_k);
}

// Scales of the sixteenths or eighths of a block of K-quants; the products of the tiles read them too.
struct ScaleMin {
  uint8_t scale, min;
};
// q4_k and q5_k: number j of 8 from the 12 bytes.
inline ScaleMin scale_min_k4(const uint8_t* s, int j) {
  if (j < 4) return {uint8_t(s[j] & 63), uint8_t(s[j + 4] & 63)};
  return {uint8_t((s[j + 4] & 15) | (s[j - 4] >> 6) << 4), uint8_t(s[j + 4] >> 4 | (s[j] >> 6) << 4)};
}
// q3_k: number i of 16, signed, from the 12 bytes.
inline int scale_k3(const uint8_t* s, int i) {
  const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
  return (low | (s[8 + i % 4] >> 2 * (i / 4) & 3) << 4) - 32;
}
// iq4_xs: number i of 8, signed, from the two bytes of high and four of low bits.
inline int scale_iq4_xs(uint16_t high, const uint8_t* low, int i) {
  return ((low[i / 2] >> 4 * (i & 1) & 15) | (high >> 2 * i & 3) << 4) - 32;
}

constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

}  // namespace statespace
