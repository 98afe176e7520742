#pragma once
// The small vector type that kernels are written over. The build compiles every kernel once per instruction set and
// says which by STATESPACE_ISA (scalar, avx2, avx512, neon); everything lies in that namespace, so that no function
// compiled for a wide machine can be linked into common code.
//
// Each isa/<name>.h defines, for a vector F of kLanes floats and a mask M:
//   zero() set(x) load(p) load(p, n) store(p, v) store(p, v, n)     n < kLanes: the first n; missing lanes read 0
//   load/store of bf16_t and f16_t in the same forms (round to nearest even); load(int8_t*)
//   load_pairs(p, even, odd): 2·kLanes of bf16
//   + - * /  fma(a, b, c) = ab + c   fnma(a, b, c) = c - ab   min max abs sqrt floor round   (min and max: NaN in b
//   wins) scale2(x, n) = x · 2^floor(n) for n in [-252, 254]
//   split(x, &e): m in [√½, √2) with x = m · 2^e, for normal x > 0
//   exp2_range(x): what of x exp2 needs, from -127 to 128 where the two that follow take no more
//   exp2_fraction(x) = x - floor(x)   scale2_floor(p, x) = p · 2^floor(x)      sum(v) max_of(v)
//   sums(rows): lane i is the sum of row i of kLanes vectors
//   reciprocal(x) for x in [1, 2^126]: within an ulp
//   load_threes(p, x) store_threes(p, a, b, c): kLanes elements of three floats, x[i] the i-th of each
//   load_fours(p, x): the same of four
//   transpose(rows): kLanes vectors as a square   less(a, b) -> M   select(m, a, b) = m ? a : b   prefetch(p) into L2
//   where a Table of 2^kTableBits floats fits in registers (AVX2, AVX-512):
//     load_table(p)   lookup(t, x) = entry floor(x · 2^kTableBits) mod 2^kTableBits of it
//     lookup_nearest(t, a, b, &n): the same for n = ab rounded to a multiple of 2^-kTableBits
//     table_rest(x) = x - floor(x · 2^kTableBits) / 2^kTableBits
#include <cmath>
#include <cstdint>
#include <cstring>

namespace statespace::STATESPACE_ISA {

struct bf16_t {
  uint16_t bits;
};
struct f16_t {
  uint16_t bits;
};

inline float bits_to_float(uint32_t u) {
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline uint32_t float_to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, 4);
  return u;
}
inline float to_float(float x) { return x; }
inline float to_float(bf16_t x) { return bits_to_float(uint32_t(x.bits) << 16); }
inline float to_float(f16_t x) {
  const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, magnitude = x.bits & 0x7fff;
  if (magnitude >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (magnitude & 0x3ff) << 13);
  if (magnitude < 0x400) return bits_to_float(sign | float_to_bits(float(magnitude) * 0x1p-24f));
  return bits_to_float(sign | ((magnitude << 13) + (112u << 23)));
}
// ab + c of floats, rounded as the vectors round it.
inline float fma1(float a, float b, float c) {
#if defined(STATESPACE_ISA_SCALAR)
  return a * b + c;
#else
  return __builtin_fmaf(a, b, c);
#endif
}
inline void from_float(float x, float& out) { out = x; }
inline void from_float(float x, bf16_t& out) {
  const uint32_t u = float_to_bits(x);
  out.bits = (u & 0x7fffffff) > 0x7f800000 ? uint16_t(u >> 16 | 0x40) : uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
inline void from_float(float x, f16_t& out) {
  const uint32_t u = float_to_bits(x), sign = u >> 16 & 0x8000;
  const uint32_t magnitude = u & 0x7fffffff;
  uint32_t h;
  if (magnitude >= 0x47800000) {
    h = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  } else if (magnitude < 0x38800000) {
    h = float_to_bits(bits_to_float(magnitude) + 0.5f) - 0x3f000000;  // the addition rounds to units of 2^-24
  } else {
    h = (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  out.bits = uint16_t(sign | h);
}

}  // namespace statespace::STATESPACE_ISA

#if defined(STATESPACE_ISA_AVX512)
#include "isa/avx512.h"
#elif defined(STATESPACE_ISA_AVX2)
#include "isa/avx2.h"
#elif defined(STATESPACE_ISA_NEON)
#include "isa/neon.h"
#else
#include "isa/scalar.h"
#endif

#if !defined(STATESPACE_BF16_DOT)
namespace statespace::STATESPACE_ISA {
constexpr bool has_bf16_dot() { return false; }
}  // namespace statespace::STATESPACE_ISA
#endif
