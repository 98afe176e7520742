#pragma once
// Four lanes, AArch64.
#include <arm_neon.h>

namespace statespace::STATESPACE_ISA {

constexpr int kLanes = 4;
struct F {
  float32x4_t v;
};
struct M {
  uint32x4_t v;
};

inline F zero() { return {vdupq_n_f32(0.f)}; }
inline F set(float x) { return {vdupq_n_f32(x)}; }
inline F load(const float* p) { return {vld1q_f32(p)}; }
inline void store(float* p, F x) { vst1q_f32(p, x.v); }
inline F load(const bf16_t* p) { return {vreinterpretq_f32_u32(vshll_n_u16(vld1_u16((const uint16_t*)p), 16))}; }
inline F load(const f16_t* p) { return {vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t*)p)))}; }
inline void store(bf16_t* p, F x) {
  const uint32x4_t u = vreinterpretq_u32_f32(x.v);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  uint32x4_t r = vshrq_n_u32(vaddq_u32(u, vaddq_u32(odd, vdupq_n_u32(0x7fff))), 16);
  r = vbslq_u32(vceqq_f32(x.v, x.v), r, vdupq_n_u32(0x7fc0));
  vst1_u16((uint16_t*)p, vmovn_u32(r));
}
inline void store(f16_t* p, F x) { vst1_u16((uint16_t*)p, vreinterpret_u16_f16(vcvt_f16_f32(x.v))); }
inline F widen_int8(int8x8_t x) { return {vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(x))))}; }
inline F load(const int8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, 4);
  return widen_int8(vreinterpret_s8_u32(vdup_n_u32(four)));
}
inline void load_pairs(const bf16_t* p, F& even, F& odd) {
  const uint32x4_t u = vreinterpretq_u32_u16(vld1q_u16((const uint16_t*)p));
  even = {vreinterpretq_f32_u32(vshlq_n_u32(u, 16))};
  odd = {vreinterpretq_f32_u32(vandq_u32(u, vdupq_n_u32(0xffff0000)))};
}
template <class T>
inline F load(const T* p, int n) {
  T part[kLanes] = {};
  std::memcpy(part, p, n * sizeof(T));
  return load(part);
}
template <class T>
inline void store(T* p, F x, int n) {
  T part[kLanes];
  store(part, x);
  std::memcpy(p, part, n * sizeof(T));
}

inline F operator+(F a, F b) { return {vaddq_f32(a.v, b.v)}; }
inline F operator-(F a, F b) { return {vsubq_f32(a.v, b.v)}; }
inline F operator*(F a, F b) { return {vmulq_f32(a.v, b.v)}; }
inline F operator/(F a, F b) { return {vdivq_f32(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
inline F fnma(F a, F b, F c) { return {vfmsq_f32(c.v, a.v, b.v)}; }
inline F min(F a, F b) { return {vminq_f32(a.v, b.v)}; }
inline F max(F a, F b) { return {vmaxq_f32(a.v, b.v)}; }
inline F abs(F a) { return {vabsq_f32(a.v)}; }
inline F sqrt(F a) { return {vsqrtq_f32(a.v)}; }
inline F floor(F a) { return {vrndmq_f32(a.v)}; }
inline F round(F a) { return {vrndnq_f32(a.v)}; }
inline F exp2_range(F x) { return min(set(128.f), max(set(-127.f), x)); }  // NaN passes: it is the second operand
inline F exp2_fraction(F x) { return {vsubq_f32(x.v, vrndmq_f32(x.v))}; }
inline F times_power(F x, int32x4_t n) {  // n from -127 to 128
  return {vmulq_f32(x.v, vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23)))};
}
inline F scale2_floor(F p, F x) { return times_power(p, vcvtmq_s32_f32(x.v)); }
inline F scale2(F x, F n) {  // in two factors: 2^128 is no float
  const int32x4_t whole = vcvtnq_s32_f32(n.v), half = vshrq_n_s32(whole, 1);
  return times_power(times_power(x, half), vsubq_s32(whole, half));
}
inline F split(F x, F* exponent) {
  const int32x4_t bits = vreinterpretq_s32_f32(x.v);
  const int32x4_t e = vshrq_n_s32(vsubq_s32(bits, vdupq_n_s32(0x3f3504f4)), 23);
  *exponent = {vcvtq_f32_s32(e)};
  return {vreinterpretq_f32_s32(vsubq_s32(bits, vshlq_n_s32(e, 23)))};
}
inline F reciprocal(F x) { return set(1.f) / x; }
inline float sum(F a) { return vaddvq_f32(a.v); }
inline F sums(const F (&r)[kLanes]) { return {vpaddq_f32(vpaddq_f32(r[0].v, r[1].v), vpaddq_f32(r[2].v, r[3].v))}; }
inline float max_of(F a) { return vmaxvq_f32(a.v); }
inline void transpose(F (&r)[kLanes]) {
  const float32x4x2_t a = vtrnq_f32(r[0].v, r[1].v), b = vtrnq_f32(r[2].v, r[3].v);
  for (int i = 0; i < 2; ++i) {
    r[i] = {vcombine_f32(vget_low_f32(a.val[i]), vget_low_f32(b.val[i]))};
    r[2 + i] = {vcombine_f32(vget_high_f32(a.val[i]), vget_high_f32(b.val[i]))};
  }
}
inline void load_threes(const float* p, F (&x)[3]) {
  const float32x4x3_t v = vld3q_f32(p);
  for (int i = 0; i < 3; ++i) x[i] = {v.val[i]};
}
inline void load_fours(const float* p, F (&x)[4]) {
  const float32x4x4_t v = vld4q_f32(p);
  for (int i = 0; i < 4; ++i) x[i] = {v.val[i]};
}
inline void store_threes(float* p, F a, F b, F c) { vst3q_f32(p, {{a.v, b.v, c.v}}); }
inline M less(F a, F b) { return {vcltq_f32(a.v, b.v)}; }
inline F select(M m, F a, F b) { return {vbslq_f32(m.v, a.v, b.v)}; }
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace statespace::STATESPACE_ISA
