#pragma once
// Rows of a weight of any type, eight values at a time.
#include "product.h"

namespace statespace::cuda {

// ggml's blocks of 32 values: an f16 scale, then 32 int8, or 16 bytes of nibbles (the low ones are the first 16
// values).
struct Q8 {
  static constexpr int kBytes = 34;
};
struct Q4 {
  static constexpr int kBytes = 18;
};
template <class W>
constexpr bool kQuantised = std::is_same_v<W, Q8> || std::is_same_v<W, Q4>;

struct alignas(16) Words {
  uint32_t w[4];
};
struct alignas(16) Floats {
  float v[4];
};

template <class T>
__device__ inline float half_at(const Words& words, int i) {
  const uint16_t bits = uint16_t(words.w[i / 2] >> 16 * (i % 2));
  T value;
  memcpy(&value, &bits, 2);
  return to_float(value);
}

__device__ inline uint32_t pair_of_bytes(global<const uint8_t> p, int64_t i) {
  return *reinterpret_cast<const uint16_t*>(at(p, i, 2));
}

// The block's scale; its values are integers times it.
__device__ inline float quant_scale(global<const uint8_t> block) {
  const uint16_t bits = uint16_t(pair_of_bytes(block, 0));
  f16 scale;
  memcpy(&scale, &bits, 2);
  return to_float(scale);
}

// Integers [k, k + 8) of a block, k a multiple of 8.
template <class W>
__device__ inline void quants(global<const uint8_t> block, int k, float (&q)[8]) {
#pragma unroll
  for (int i = 0; i < 8; i += 2) {
    if constexpr (std::is_same_v<W, Q8>) {
      const uint32_t pair = pair_of_bytes(block, 2 + k + i);
      q[i] = float(int8_t(pair & 255)), q[i + 1] = float(int8_t(pair >> 8));
    } else {
      const uint32_t pair = pair_of_bytes(block, 2 + k % 16 + i) >> (k < 16 ? 0 : 4);
      q[i] = float(int(pair & 15) - 8), q[i + 1] = float(int(pair >> 8 & 15) - 8);
    }
  }
}

// Bytes before element i of a weight.
template <class W>
__device__ inline int64_t weight_offset(int64_t i) {
  if constexpr (kQuantised<W>)
    return i / kQuantBlock * W::kBytes;
  else
    return i * int64_t(sizeof(W));
}

// Element i of a weight.
template <class W>
__device__ inline float weight_value(const Product& p, int64_t i) {
  if constexpr (kQuantised<W>) {
    const int k = int(i % kQuantBlock);
    const global<const uint8_t> block = p.weight + weight_offset<W>(i - k);
    const int byte = block[2 + (std::is_same_v<W, Q8> ? k : k % 16)];
    const int q = std::is_same_v<W, Q8> ? int(int8_t(byte)) : (k < 16 ? byte & 15 : byte >> 4) - 8;
    return quant_scale(block) * float(q);
  } else {
    return to_float(*reinterpret_cast<const W*>(at(p.weight, weight_offset<W>(i), sizeof(W))));
  }
}

// Values [k, k + 8) of a weight's row that begins at element `row`; zeros past `in`. k is a multiple of 8.
template <class W>
__device__ inline void weight_values(const Product& p, int64_t row, int k, float (&w)[8]) {
  if constexpr (kQuantised<W>) {
    const global<const uint8_t> block = p.weight + weight_offset<W>(row + k / kQuantBlock * kQuantBlock);
    quants<W>(block, k % int(kQuantBlock), w);
    const float scale = quant_scale(block);
#pragma unroll
    for (float& v : w) v *= scale;
  } else if (p.aligned && k + 8 <= p.in) {
    const uint8_t* from = at(p.weight, weight_offset<W>(row + k), 8 * sizeof(W));
    if constexpr (std::is_same_v<W, float>) {
      const Floats low = *reinterpret_cast<const Floats*>(from), high = *reinterpret_cast<const Floats*>(from + 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) w[i] = low.v[i], w[4 + i] = high.v[i];
    } else {
      const Words words = *reinterpret_cast<const Words*>(from);
#pragma unroll
      for (int i = 0; i < 8; ++i) w[i] = half_at<W>(words, i);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 8; ++i) w[i] = k + i < p.in ? weight_value<W>(p, row + k + i) : 0;
  }
}

// Calls fn.operator()<W>() for the type that a weight's dtype stands for.
template <class Fn>
void with_weight(DType dtype, Fn&& fn) {
  switch (dtype) {
    case DType::f16:
      return fn.template operator()<f16>();
    case DType::bf16:
      return fn.template operator()<bf16>();
    case DType::q8_0:
      return fn.template operator()<Q8>();
    case DType::q4_0:
      return fn.template operator()<Q4>();
    default:
      return fn.template operator()<float>();
  }
}

}  // namespace statespace::cuda
