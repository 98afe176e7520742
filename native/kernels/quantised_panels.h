#pragma once
// How a panel of quantised outputs lies packed: what a block of ggml's holds, taken apart so that the bytes of kLanes
// outputs are multiplied side by side.
//
// A panel is, for each block of the type (32 or 256 of `in`), a head and the codes:
//   head    f16 d (kPanel), f16 minimum (kPanel), and for 256s 8 or 16 times uint8 or int8 (kPanel), as Scales says
//   codes   for each 32 of `in` and each kLanes outputs, planes of 4·kLanes bytes: byte 4·lane + i is input 4·group + i
//           of that output, for group = 0 … 7
//   8 bits  plane g is group g
//   4 bits  plane j is group j in the low half, group j + 4 in the high one
//   2 bits  plane j is groups 4j … 4j + 3 from the low bits on
//   1 bit   one plane, bit g for group g
// Codes of 5, 6 and 3 bits are planes of 4, 4 and 2 and, behind them, planes of the 1, 2 and 1 bits above.
#include "core/blocks.h"
#include "core/tensor.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

enum class Scales : uint8_t {
  d,          // f16 d
  d_min,      // f16 d, f16 m: values are d·code + m
  exponent,   // uint8: 2^(e - 128)
  parts,      // f16 d, int8 for each part of 256
  parts_min,  // f16 d, f16 dmin, uint8 for each part, uint8 minima
  nibbles     // f16 d, f16 dmin, uint8 for each part: scale low, minimum high
};

// NEON's older instructions multiply signed bytes by signed ones: codes that stand for 0 at 128 lie signed there.
#if defined(STATESPACE_ISA_NEON)
constexpr bool kSignedCodes = true;
#else
constexpr bool kSignedCodes = false;
#endif

struct Form {
  int low, high;  // bits of a code in its first planes and in those above
  int zero;       // log2 of the code that stands for 0; -1: codes count from a minimum
  int halves;     // scales for 32 of `in`
  Scales scales;
  bool table = false;  // codes are places in a table of 16 (code_table)

  constexpr bool has_min() const { return zero < 0; }
  constexpr int planes() const { return low + high; }
  // Codes that are below 128.
  constexpr bool small() const { return zero < 7; }
  // Of a code as it is multiplied.
  constexpr int bits() const { return table ? zero + 1 : planes(); }
  // Groups of four inputs, of those that share a scale, whose products by int8 are summed in 16 bits, two inputs in
  // each; 0: not even one's.
  constexpr int run() const {
    int n = 8 / halves;
    while (n * 2 * 127 * ((1 << bits()) - 1) > 32767) n /= 2;
    return n;
  }
  // The code that stands for 0, as it lies.
  constexpr int offset() const { return has_min() || (kSignedCodes && !small()) ? 0 : 1 << zero; }
};

constexpr Form form_of(DType t) {
  switch (t) {
    case DType::q4_0:
      return {4, 0, 3, 1, Scales::d};
    case DType::q4_1:
      return {4, 0, -1, 1, Scales::d_min};
    case DType::q5_0:
      return {4, 1, 4, 1, Scales::d};
    case DType::q5_1:
      return {4, 1, -1, 1, Scales::d_min};
    case DType::q2_k:
      return {2, 0, -1, 2, Scales::nibbles};
    case DType::q3_k:
      return {2, 1, 2, 2, Scales::parts};
    case DType::q4_k:
      return {4, 0, -1, 1, Scales::parts_min};
    case DType::q5_k:
      return {4, 1, -1, 1, Scales::parts_min};
    case DType::q6_k:
      return {4, 2, 5, 2, Scales::parts};
    case DType::iq4_nl:
      return {4, 0, 7, 1, Scales::d, true};
    case DType::iq4_xs:
      return {4, 0, 7, 1, Scales::parts, true};
    case DType::mxfp4:
      return {4, 0, 4, 1, Scales::exponent, true};
    default:
      return {8, 0, 7, 1, Scales::d};  // q8_0
  }
}

// Codes of the types with tables.
constexpr uint8_t table_code(DType t, int i) {
  return uint8_t((t == DType::mxfp4 ? kMxfp4Values[i] : kIq4Values[i]) + form_of(t).offset());
}

// Bytes of the head for one output.
constexpr int head_bytes(const Form& f) {
  switch (f.scales) {
    case Scales::d:
      return 2;
    case Scales::d_min:
      return 4;
    case Scales::exponent:
      return 1;
    case Scales::parts:
      return 2 + 8 * f.halves;
    default:
      return 4 + 16;
  }
}
// Of a panel, for one block of the type.
constexpr int64_t packed_block_bytes(DType t) {
  const Form f = form_of(t);
  return kPanel * (head_bytes(f) + dtype_block(t) * f.planes() / 8);
}

// Panel of the next n ≤ kPanel outputs, rows of blocks `row_bytes` apart; missing ones are 0.
void pack_quantised(DType type, const uint8_t* rows, int64_t row_bytes, int n, int64_t in, uint8_t* to);
// Output o of a panel as decode_blocks() has it.
void read_quantised(DType type, const uint8_t* panel, int o, int64_t in, float* out);

// fn(std::integral_constant<DType, type>)
template <class Fn>
void with_blocks(DType type, Fn&& fn) {
  using enum DType;
  auto call = [&]<DType T>() { fn(std::integral_constant<DType, T>{}); };
  switch (type) {
    case q4_0:
      return call.template operator()<q4_0>();
    case q4_1:
      return call.template operator()<q4_1>();
    case q5_0:
      return call.template operator()<q5_0>();
    case q5_1:
      return call.template operator()<q5_1>();
    case q2_k:
      return call.template operator()<q2_k>();
    case q3_k:
      return call.template operator()<q3_k>();
    case q4_k:
      return call.template operator()<q4_k>();
    case q5_k:
      return call.template operator()<q5_k>();
    case q6_k:
      return call.template operator()<q6_k>();
    case iq4_nl:
      return call.template operator()<iq4_nl>();
    case iq4_xs:
      return call.template operator()<iq4_xs>();
    case mxfp4:
      return call.template operator()<mxfp4>();
    default:
      return call.template operator()<q8_0>();
  }
}

}  // namespace statespace::STATESPACE_ISA
