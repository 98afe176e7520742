#pragma once
// The vectors of kernels/bytes.h on AArch64: 16 bytes, four sums. Codes are signed here (Form::offset()).
#include <arm_neon.h>

#include "isa/simd.h"

#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace statespace::STATESPACE_ISA {

struct Bytes {
  uint8x16_t v;
};
struct Ints {
  int32x4_t v;
};
inline Bytes load_bytes(const void* p) { return {vld1q_u8(static_cast<const uint8_t*>(p))}; }
inline void store_bytes(void* p, Bytes b) { vst1q_u8(static_cast<uint8_t*>(p), b.v); }
template <int shift, int bits, int to = 0>
inline Bytes field(Bytes b) {
  uint8x16_t v = b.v;
  if constexpr (shift > to) v = vshrq_n_u8(v, shift - to);
  if constexpr (shift < to) v = vshlq_n_u8(v, to - shift);
  return {vandq_u8(v, vdupq_n_u8(((1 << bits) - 1) << to))};
}
inline Bytes operator|(Bytes a, Bytes b) { return {vorrq_u8(a.v, b.v)}; }
inline Bytes load_table(const uint8_t* p) { return load_bytes(p); }
inline Bytes lookup(Bytes table, Bytes b) { return {vqtbl1q_u8(table.v, b.v)}; }
inline Bytes set_quad(const int32_t* p) { return {vreinterpretq_u8_s32(vld1q_dup_s32(p))}; }
inline Ints set_int(int32_t x) { return {vdupq_n_s32(x)}; }
inline Ints operator+(Ints a, Ints b) { return {vaddq_s32(a.v, b.v)}; }
inline F to_float(Ints i) { return {vcvtq_f32_s32(i.v)}; }
template <int i>
inline F each_byte(Bytes b) {
  return {vcvtq_f32_s32(vshrq_n_s32(vshlq_n_s32(vreinterpretq_s32_u8(b.v), 24 - 8 * i), 24))};
}
inline F widen(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return {vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(four))))))};
}
inline void narrow(int8_t* p, F x) {
  const int16x4_t halves = vqmovn_s32(vcvtq_s32_f32(x.v));
  const uint32_t four = vget_lane_u32(vreinterpret_u32_s8(vqmovn_s16(vcombine_s16(halves, halves))), 0);
  std::memcpy(p, &four, 4);
}
inline void store_ints(void* p, F x) { vst1q_s32(static_cast<int32_t*>(p), vcvtq_s32_f32(x.v)); }
inline F maxima(F (&r)[kLanes]) { return {vpmaxq_f32(vpmaxq_f32(r[0].v, r[1].v), vpmaxq_f32(r[2].v, r[3].v))}; }
inline F powers(const uint8_t* p) {
  uint32_t e[kLanes];
  for (int i = 0; i < kLanes; ++i) e[i] = uint32_t(p[i] > 1 ? p[i] - 1 : 0) << 23;
  return {vreinterpretq_f32_u32(vld1q_u32(e))};
}

// FEAT_DotProd and FEAT_I8MM.
struct Int8Features {
  bool dot = false, matrix = false;
};
inline Int8Features int8_features() {
  Int8Features has;
  if (!int8_dot_wanted()) return has;
#if defined(__linux__)
  has.dot = getauxval(AT_HWCAP) >> 20 & 1;
  has.matrix = getauxval(AT_HWCAP2) >> 13 & 1;
#elif defined(__APPLE__)
  const auto asks = [](const char* name) {
    int value = 0;
    size_t bytes = sizeof value;
    return sysctlbyname(name, &value, &bytes, nullptr, 0) == 0 && value;
  };
  has.dot = asks("hw.optional.arm.FEAT_DotProd");
  has.matrix = asks("hw.optional.arm.FEAT_I8MM");
#endif
  return has;
}
inline const Int8Features& int8_has() {
  static const Int8Features has = int8_features();
  return has;
}
inline bool has_int8_dot() { return int8_has().dot; }

// The instructions are written out: a function for machines that have them could not be inlined into one for all.
struct DotInstruction {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    asm(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sums.v) : "w"(codes.v), "w"(x.v));
    return sums;
  }
};
struct DotAny {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    const int8x16_t a = vreinterpretq_s8_u8(codes.v), b = vreinterpretq_s8_u8(x.v);
    const int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(b)), high = vmull_high_s8(a, b);
    return {vpadalq_s16(sums.v, vpaddq_s16(low, high))};  // 2 · 128 · 127 < 2^15
  }
};
template <int>
using DotSums = DotAny;

// Two rows of eight bytes by two of eight: sums (2, 2) += a · bᵀ.
#define STATESPACE_SQUARES
inline bool has_int8_squares() { return int8_has().matrix; }
inline Ints add_square(Ints sums, Bytes a, Bytes b) {
  asm(".arch armv8.2-a+i8mm\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(sums.v) : "w"(a.v), "w"(b.v));
  return sums;
}
// Words 0 0 1 1 and 2 2 3 3 of a and b by turns: eight bytes of lanes 0 and 1, and of lanes 2 and 3.
inline void zip_words(Bytes a, Bytes b, Bytes& low, Bytes& high) {
  const uint32x4_t x = vreinterpretq_u32_u8(a.v), y = vreinterpretq_u32_u8(b.v);
  low = {vreinterpretq_u8_u32(vzip1q_u32(x, y))}, high = {vreinterpretq_u8_u32(vzip2q_u32(x, y))};
}
// Rows of two squares side by side.
inline Ints first_row(Ints a, Ints b) {
  return {vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a.v), vreinterpretq_s64_s32(b.v)))};
}
inline Ints second_row(Ints a, Ints b) {
  return {vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a.v), vreinterpretq_s64_s32(b.v)))};
}

}  // namespace statespace::STATESPACE_ISA
