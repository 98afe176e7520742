#pragma once
// f16 and bf16 to and from f32 outside the kernels: loading weights, tests. Round to nearest even.
#include <cstdint>
#include <cstring>

#include "core/tensor.h"

namespace statespace {

inline float float_of_bits(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t bits_of_float(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}

inline float bf16_to_f32(uint16_t x) { return float_of_bits(uint32_t(x) << 16); }
inline uint16_t f32_to_bf16(float x) {
  const uint32_t u = bits_of_float(x);
  if ((u & 0x7fffffff) > 0x7f800000) return uint16_t(u >> 16 | 0x40);
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

inline float f16_to_f32(uint16_t x) {
  const uint32_t sign = uint32_t(x & 0x8000) << 16, magnitude = x & 0x7fff;
  if (magnitude >= 0x7c00) return float_of_bits(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) return float_of_bits(sign | bits_of_float(float(magnitude) * 0x1p-24f));
  return float_of_bits(sign | ((magnitude << 13) + (112u << 23)));
}
inline uint16_t f32_to_f16(float x) {
  const uint32_t u = bits_of_float(x), sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
  uint32_t h;
  if (magnitude > 0x7f800000)
    h = 0x7e00;
  else if (magnitude >= 0x477ff000)
    h = 0x7c00;
  else if (magnitude < 0x38800000)
    h = bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3f000000;  // rounds to 2^-24
  else
    h = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  return uint16_t(sign | h);
}

// Element i of f32, f16 or bf16 data at any alignment.
inline float read_float(const void* data, DType dtype, int64_t i) {
  if (dtype == DType::f32) {
    float f;
    std::memcpy(&f, static_cast<const char*>(data) + 4 * i, 4);
    return f;
  }
  uint16_t u;
  std::memcpy(&u, static_cast<const char*>(data) + 2 * i, 2);
  return dtype == DType::bf16 ? bf16_to_f32(u) : f16_to_f32(u);
}
inline void write_float(void* data, DType dtype, int64_t i, float x) {
  if (dtype == DType::f32)
    static_cast<float*>(data)[i] = x;
  else
    static_cast<uint16_t*>(data)[i] = dtype == DType::bf16 ? f32_to_bf16(x) : f32_to_f16(x);
}

}  // namespace statespace
