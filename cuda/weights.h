#pragma once
// Rows of a weight of any type, eight values at a time.
#include "product.h"

namespace statespace::cuda {

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

__device__ inline float half_of(global<const uint8_t> p, int64_t i) {
  const uint16_t bits = uint16_t(pair_of_bytes(p, i));
  f16 value;
  memcpy(&value, &bits, 2);
  return to_float(value);
}

// N neighbouring bytes, one or eight; eight begin at a multiple of two.
template <int N>
struct Bytes {
  uint32_t w[2] = {};
  __device__ Bytes(global<const uint8_t> p, int64_t i) {
    if constexpr (N == 1) {
      w[0] = p[i];
    } else {
#pragma unroll
      for (int j = 0; j < 4; ++j) w[j / 2] |= pair_of_bytes(p, i + 2 * j) << 16 * (j % 2);
    }
  }
  __device__ int operator[](int i) const { return int(w[i / 4] >> 8 * (i % 4) & 255); }
};

// What kGroup neighbouring values of a block share: value = scale·q - min.
struct Group {
  float scale, min;
};

// ggml's blocks (native/core/blocks.h): kValues values in kBytes. group() is the group of value k; quants() gives the
// integers [k, k + N), N being 1, or 8 at a multiple of 8.
struct Q8 {
  static constexpr int kValues = 32, kBytes = 34, kGroup = 32;
  static constexpr bool kMins = false;
  static __device__ Group group(global<const uint8_t> block, int) { return {half_of(block, 0), 0}; }
  template <int N>
  static __device__ void quants(global<const uint8_t> block, int k, float (&q)[N]) {
    const Bytes<N> bytes(block, 2 + k);
#pragma unroll
    for (int i = 0; i < N; ++i) q[i] = float(int8_t(bytes[i]));
  }
};
struct Q4 {
  static constexpr int kValues = 32, kBytes = 18, kGroup = 32;
  static constexpr bool kMins = false;
  static __device__ Group group(global<const uint8_t> block, int) { return {half_of(block, 0), 0}; }
  template <int N>
  static __device__ void quants(global<const uint8_t> block, int k, float (&q)[N]) {
    const Bytes<N> bytes(block, 2 + k % 16);
#pragma unroll
    for (int i = 0; i < N; ++i) q[i] = float((bytes[i] >> (k < 16 ? 0 : 4) & 15) - 8);
  }
};
struct Q4K {
  static constexpr int kValues = 256, kBytes = 144, kGroup = 32;
  static constexpr bool kMins = true;
  static __device__ Group group(global<const uint8_t> block, int k) {
    const int j = k / kGroup;
    const int a = block[4 + j % 4], b = block[8 + j % 4], c = block[12 + j % 4];
    const int scale = j < 4 ? a & 63 : (c & 15) | a >> 6 << 4, min = j < 4 ? b & 63 : c >> 4 | b >> 6 << 4;
    return {half_of(block, 0) * float(scale), half_of(block, 2) * float(min)};
  }
  template <int N>
  static __device__ void quants(global<const uint8_t> block, int k, float (&q)[N]) {
    const Bytes<N> bytes(block, 16 + k / 64 * 32 + k % 32);
#pragma unroll
    for (int i = 0; i < N; ++i) q[i] = float(bytes[i] >> k % 64 / 32 * 4 & 15);
  }
};
struct Q6K {
  static constexpr int kValues = 256, kBytes = 210, kGroup = 16;
  static constexpr bool kMins = false;
  static __device__ Group group(global<const uint8_t> block, int k) {
    return {half_of(block, 208) * float(int8_t(block[192 + k / kGroup])), 0};
  }
  template <int N>
  static __device__ void quants(global<const uint8_t> block, int k, float (&q)[N]) {
    const Bytes<N> low(block, k / 128 * 64 + k % 64), high(block, 128 + k / 128 * 32 + k % 32);
#pragma unroll
    for (int i = 0; i < N; ++i)
      q[i] = float(((low[i] >> k % 128 / 64 * 4 & 15) | (high[i] >> k % 128 / 32 * 2 & 3) << 4) - 32);
  }
};
template <class W>
concept Quantised = requires {
  W::kGroup;
};
template <class W>
constexpr bool kQuantised = Quantised<W>;

// Element i of some blocks.
template <Quantised W>
__device__ inline float quantised_value(global<const uint8_t> blocks, int64_t i) {
  const int k = int(i % W::kValues);
  const global<const uint8_t> block = blocks + i / W::kValues * W::kBytes;
  const Group group = W::group(block, k);
  float q[1];
  W::quants(block, k, q);
  return W::kMins ? group.scale * q[0] - group.min : group.scale * q[0];
}

// Bytes before element i of a weight; of blocks, before the one that holds it.
template <class W>
__device__ inline int64_t weight_offset(int64_t i) {
  if constexpr (kQuantised<W>)
    return i / W::kValues * W::kBytes;
  else
    return i * int64_t(sizeof(W));
}

// Element i of a weight.
template <class W>
__device__ inline float weight_value(const Product& p, int64_t i) {
  if constexpr (kQuantised<W>)
    return quantised_value<W>(p.weight, i);
  else
    return to_float(*reinterpret_cast<const W*>(at(p.weight, weight_offset<W>(i), sizeof(W))));
}

// Values [k, k + 8) of a weight's row that begins at element `row`; zeros past `in`. k is a multiple of 8.
template <class W>
__device__ inline void weight_values(const Product& p, int64_t row, int k, float (&w)[8]) {
  if constexpr (kQuantised<W>) {
    const global<const uint8_t> block = p.weight + weight_offset<W>(row + k);
    W::quants(block, k % W::kValues, w);
    const Group group = W::group(block, k % W::kValues);
#pragma unroll
    for (float& v : w) v = W::kMins ? group.scale * v - group.min : group.scale * v;
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
    case DType::q4_k:
      return fn.template operator()<Q4K>();
    case DType::q6_k:
      return fn.template operator()<Q6K>();
    default:
      return fn.template operator()<float>();
  }
}

}  // namespace statespace::cuda
