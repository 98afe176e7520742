#pragma once
// f16 and bf16 to and from f32 by an instruction set's own instructions, rounded to nearest even, and the blocks whose
// scales are searched.
#include <algorithm>
#include <cstdint>

#include "core/context.h"
#include "core/tensor.h"

namespace statespace {

struct Conversions {
  // `count` values of f16 or bf16.
  void (*widen)(const void* from, DType type, int64_t count, float* to);
  void (*narrow)(const float* from, int64_t count, DType type, void* to);
  // One block of a K-quant, iq4_nl or iq4_xs, as encode_blocks() writes it.
  void (*search_block)(DType type, const float* x, const float* importance, uint8_t* out);
};

// This machine's, in native/backend.
const Conversions& conversions();

constexpr int64_t kConvertPiece = 1 << 16;  // values that one thread converts at a time

// `count` values from one float type to another.
inline void convert_floats(const void* from, DType from_type, int64_t count, void* to, DType to_type,
                           const Context& cx) {
  const Conversions& c = conversions();
  cx.parallel_stretches((count + kConvertPiece - 1) / kConvertPiece, [&](int64_t piece, int) {
    const int64_t begin = piece * kConvertPiece, n = std::min(kConvertPiece, count - begin);
    const char* a = static_cast<const char*>(from) + dtype_bytes(from_type, begin);
    char* b = static_cast<char*>(to) + dtype_bytes(to_type, begin);
    if (from_type == to_type)
      std::copy(a, a + dtype_bytes(from_type, n), b);
    else if (from_type == DType::f32)
      c.narrow(reinterpret_cast<const float*>(a), n, to_type, b);
    else if (to_type == DType::f32)
      c.widen(a, from_type, n, reinterpret_cast<float*>(b));
  });
}

}  // namespace statespace
