#pragma once
// f32 rows into the blocks of core/blocks.h.
//
// q8_0, q4_0, q4_1, q5_0, q5_1, mxfp4, tq1_0, tq2_0: the published rounding, ggml's bytes. The K-quants, iq4_nl and
// iq4_xs: scales are searched for the least squared error, so the bytes differ from ggml's and the error is smaller.
#include "core/tensor.h"

namespace statespace {

// Whether encode_blocks() writes a type: all floats and all that is held, and tq1_0 and tq2_0.
constexpr bool is_encoded(DType t) { return is_held(t) || t == DType::tq1_0 || t == DType::tq2_0; }

// out = `count` values (whole blocks). `importance`, a weight of at least 0 for the squared error of each value or
// nullptr for ones, matters where scales are searched.
void encode_blocks(DType type, const float* x, int64_t count, const float* importance, uint8_t* out);

// Whether a type's values are q4_0's exactly: few multiples of one half.
constexpr bool is_within_q4_0(DType t) {
  return t == DType::tq1_0 || t == DType::tq2_0 || t == DType::q1_0 || t == DType::q2_0;
}
// out = q4_0 blocks of the same `count` values, those of such a type.
void encode_within_q4_0(const float* x, int64_t count, uint8_t* out);

}  // namespace statespace
