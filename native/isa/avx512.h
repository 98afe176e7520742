#pragma once
// Sixteen lanes: AVX-512 F, BW, DQ, VL.
#include <immintrin.h>

namespace statespace::STATESPACE_ISA {

constexpr int kLanes = 16;
struct F {
  __m512 v;
};
struct M {
  __mmask16 v;
};

inline __mmask16 first_lanes(int n) { return __mmask16((1u << n) - 1); }
inline F zero() { return {_mm512_setzero_ps()}; }
inline F set(float x) { return {_mm512_set1_ps(x)}; }
inline F load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F load(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_lanes(n), p)}; }
inline void store(float* p, F x) { _mm512_storeu_ps(p, x.v); }
inline void store(float* p, F x, int n) { _mm512_mask_storeu_ps(p, first_lanes(n), x.v); }

inline F widen_bf16(__m256i u) { return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(u), 16))}; }
inline F load(const bf16_t* p) { return widen_bf16(_mm256_loadu_si256((const __m256i*)p)); }
inline F load(const bf16_t* p, int n) { return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p)); }
inline F load(const f16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
inline F load(const f16_t* p, int n) { return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))}; }
inline __m256i narrow_bf16(F x) {
  const __m512i u = _mm512_castps_si512(x.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  __m512i r = _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  r = _mm512_mask_mov_epi32(r, _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc0));
  return _mm512_cvtepi32_epi16(r);
}
inline __m256i narrow_f16(F x) { return _mm512_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT); }
inline void store(bf16_t* p, F x) { _mm256_storeu_si256((__m256i*)p, narrow_bf16(x)); }
inline void store(bf16_t* p, F x, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(x)); }
inline void store(f16_t* p, F x) { _mm256_storeu_si256((__m256i*)p, narrow_f16(x)); }
inline void store(f16_t* p, F x, int n) { _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_f16(x)); }
inline F load(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}
inline void load_pairs(const bf16_t* p, F& even, F& odd) {
  const __m512i u = _mm512_loadu_si512(p);
  even = {_mm512_castsi512_ps(_mm512_slli_epi32(u, 16))};
  odd = {_mm512_castsi512_ps(_mm512_and_si512(u, _mm512_set1_epi32(int(0xffff0000))))};
}

inline F operator+(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F fnma(F a, F b, F c) { return {_mm512_fnmadd_ps(a.v, b.v, c.v)}; }
inline F min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm512_abs_ps(a.v)}; }
inline F sqrt(F a) { return {_mm512_sqrt_ps(a.v)}; }
inline F floor(F a) { return {_mm512_roundscale_ps(a.v, 0x09)}; }
inline F round(F a) { return {_mm512_roundscale_ps(a.v, 0x08)}; }
inline F exp2_range(F x) { return x; }  // reduce and scalef take any x
inline F exp2_fraction(F x) { return {_mm512_reduce_ps(x.v, 0x09)}; }
inline F scale2_floor(F p, F x) { return {_mm512_scalef_ps(p.v, x.v)}; }
inline F scale2(F x, F n) { return {_mm512_scalef_ps(x.v, n.v)}; }
inline F split(F x, F* exponent) {
  const __m512i least = _mm512_set1_epi32(0x3f3504f4), bits = _mm512_castps_si512(x.v);
  const __m512i e = _mm512_srai_epi32(_mm512_sub_epi32(bits, least), 23);
  *exponent = {_mm512_cvtepi32_ps(e)};
  return {_mm512_castsi512_ps(_mm512_sub_epi32(bits, _mm512_slli_epi32(e, 23)))};
}
inline F reciprocal(F x) {
  const __m512 r = _mm512_rcp14_ps(x.v);
  return {_mm512_fmadd_ps(_mm512_fnmadd_ps(x.v, r, _mm512_set1_ps(1.f)), r, r)};
}

constexpr int kTableBits = 5;
struct Table {
  __m512 low, high;
};
inline Table load_table(const float* p) { return {_mm512_loadu_ps(p), _mm512_loadu_ps(p + 16)}; }
// The sum with 1.5 · 2^18 has floor(32 x) in its last bits.
inline F lookup(const Table& t, F x) {
  const __m512 at = _mm512_add_round_ps(x.v, _mm512_set1_ps(0x1.8p18f), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
  return {_mm512_permutex2var_ps(t.low, _mm512_castps_si512(at), t.high)};
}
inline F lookup_nearest(const Table& t, F a, F b, F* nearest) {
  const __m512 shift = _mm512_set1_ps(0x1.8p18f), at = _mm512_fmadd_ps(a.v, b.v, shift);
  *nearest = {_mm512_sub_ps(at, shift)};
  return {_mm512_permutex2var_ps(t.low, _mm512_castps_si512(at), t.high)};
}
inline F table_rest(F x) { return {_mm512_reduce_ps(x.v, kTableBits << 4 | 0x09)}; }
inline float sum(F a) { return _mm512_reduce_add_ps(a.v); }
inline F sums(const F (&r)[kLanes]) {
  F t[8], u[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {  // pairs of rows, within quarters
    const __m512 a = r[2 * i].v, b = r[2 * i + 1].v;
    t[i] = {_mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b))};
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {  // u[i]: four rows, a sum of each quarter
    const __m512d a = _mm512_castps_pd(t[2 * i].v), b = _mm512_castps_pd(t[2 * i + 1].v);
    u[i] = {_mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)))};
  }
  auto quarters = [](F a, F b) {
    return F{_mm512_add_ps(_mm512_shuffle_f32x4(a.v, b.v, 0x88), _mm512_shuffle_f32x4(a.v, b.v, 0xdd))};
  };
  return quarters(quarters(u[0], u[1]), quarters(u[2], u[3]));
}
inline float max_of(F a) { return _mm512_reduce_max_ps(a.v); }
inline F bf16_pairs(F low, F high) {
  const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(narrow_bf16(low)), narrow_bf16(high), 1);
  return {_mm512_castsi512_ps(both)};
}
inline void transpose(F (&r)[kLanes]) {
  F t[kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {  // pairs of rows within quarters
    t[i] = {_mm512_unpacklo_ps(r[i].v, r[i + 1].v)};
    t[i + 1] = {_mm512_unpackhi_ps(r[i].v, r[i + 1].v)};
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4)  // r[i + c]: column c of every quarter, four rows each
#pragma GCC unroll 2
    for (int h = 0; h < 2; ++h) {
      const __m512d a = _mm512_castps_pd(t[i + h].v), b = _mm512_castps_pd(t[i + 2 + h].v);
      r[i + 2 * h] = {_mm512_castpd_ps(_mm512_unpacklo_pd(a, b))};
      r[i + 2 * h + 1] = {_mm512_castpd_ps(_mm512_unpackhi_pd(a, b))};
    }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {  // the quarters themselves
    const __m512 a = _mm512_shuffle_f32x4(r[c].v, r[4 + c].v, 0x88), b = _mm512_shuffle_f32x4(r[c].v, r[4 + c].v, 0xdd);
    const __m512 d = _mm512_shuffle_f32x4(r[8 + c].v, r[12 + c].v, 0x88);
    const __m512 e = _mm512_shuffle_f32x4(r[8 + c].v, r[12 + c].v, 0xdd);
    t[c] = {_mm512_shuffle_f32x4(a, d, 0x88)};
    t[8 + c] = {_mm512_shuffle_f32x4(a, d, 0xdd)};
    t[4 + c] = {_mm512_shuffle_f32x4(b, e, 0x88)};
    t[12 + c] = {_mm512_shuffle_f32x4(b, e, 0xdd)};
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) r[i] = t[i];
}
inline void load_threes(const float* p, F (&x)[3]) {
  const __m512 v0 = _mm512_loadu_ps(p), v1 = _mm512_loadu_ps(p + 16), v2 = _mm512_loadu_ps(p + 32);
  const __m512i i = _mm512_set_epi32(0, 0, 0, 0, 0, 30, 27, 24, 21, 18, 15, 12, 9, 6, 3, 0);
  const __m512i last = _mm512_set_epi32(29, 26, 23, 20, 17, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                one = _mm512_set1_epi32(1);
  // The first 11 lanes from the first two vectors (the third element's first 10), the others from the last.
  x[0] = {_mm512_permutex2var_ps(_mm512_permutex2var_ps(v0, i, v1), last, v2)};
  const __m512i i1 = _mm512_add_epi32(i, one), last1 = _mm512_mask_add_epi32(last, 0xf800, last, one);
  x[1] = {_mm512_permutex2var_ps(_mm512_permutex2var_ps(v0, i1, v1), last1, v2)};
  const __m512i i2 = _mm512_add_epi32(i1, one);
  const __m512i last2 = _mm512_set_epi32(31, 28, 25, 22, 19, 16, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  x[2] = {_mm512_permutex2var_ps(_mm512_permutex2var_ps(v0, i2, v1), last2, v2)};
}
inline void load_fours(const float* p, F (&x)[4]) {
  const __m512 v0 = _mm512_loadu_ps(p), v1 = _mm512_loadu_ps(p + 16), v2 = _mm512_loadu_ps(p + 32);
  const __m512 v3 = _mm512_loadu_ps(p + 48);
  __m512i i = _mm512_set_epi32(28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0);
  for (int j = 0; j < 4; ++j, i = _mm512_add_epi32(i, _mm512_set1_epi32(1)))
    x[j] = {_mm512_mask_blend_ps(0xff00, _mm512_permutex2var_ps(v0, i, v1), _mm512_permutex2var_ps(v2, i, v3))};
}
inline void store_threes(float* p, F a, F b, F c) {
  // Two of the three interleaved, then the third between them: x names a lane of a, 16 + x of b.
  const __m512i ab0 = _mm512_set_epi32(5, 0, 20, 4, 0, 19, 3, 0, 18, 2, 0, 17, 1, 0, 16, 0);
  const __m512i c0 = _mm512_set_epi32(15, 20, 13, 12, 19, 10, 9, 18, 7, 6, 17, 4, 3, 16, 1, 0);
  const __m512i ab1 = _mm512_set_epi32(26, 10, 0, 25, 9, 0, 24, 8, 0, 23, 7, 0, 22, 6, 0, 21);
  const __m512i c1 = _mm512_set_epi32(15, 14, 25, 12, 11, 24, 9, 8, 23, 6, 5, 22, 3, 2, 21, 0);
  const __m512i ab2 = _mm512_set_epi32(0, 31, 15, 0, 30, 14, 0, 29, 13, 0, 28, 12, 0, 27, 11, 0);
  const __m512i c2 = _mm512_set_epi32(31, 14, 13, 30, 11, 10, 29, 8, 7, 28, 5, 4, 27, 2, 1, 26);
  _mm512_storeu_ps(p, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a.v, ab0, b.v), c0, c.v));
  _mm512_storeu_ps(p + 16, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a.v, ab1, b.v), c1, c.v));
  _mm512_storeu_ps(p + 32, _mm512_permutex2var_ps(_mm512_permutex2var_ps(a.v, ab2, b.v), c2, c.v));
}
inline M less(F a, F b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
inline F select(M m, F a, F b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
#if defined(__GNUC__)
// gcc 12 takes a function that does nothing but prefetch for one without effect and leaves out its calls.
inline void prefetch(const void* p) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p))); }
#else
inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
#endif

// Products of pairs of bf16, where the machine has them: functions that use them carry this attribute and are called
// after has_bf16_dot().
#define STATESPACE_BF16_DOT __attribute__((target("avx512bf16")))
inline bool has_bf16_dot() {
  static const bool has = __builtin_cpu_supports("avx512bf16");
  return has;
}
struct Pairs {
  __m512i v;
};
inline Pairs set_pair(uint32_t x) { return {_mm512_set1_epi32(int(x))}; }
inline Pairs set_pair(const void* p) {
  uint32_t x;
  std::memcpy(&x, p, 4);
  return set_pair(x);
}
inline Pairs load_pairs(const void* p) { return {_mm512_loadu_si512(p)}; }
inline Pairs load_pairs(const bf16_t* p, int n) { return {_mm512_maskz_loadu_epi16(__mmask32((1u << n) - 1), p)}; }
inline void store_pairs(void* p, Pairs x) { _mm512_storeu_si512(p, x.v); }
inline Pairs mask_pairs(Pairs x, uint32_t bits) { return {_mm512_and_si512(x.v, _mm512_set1_epi32(int(bits)))}; }
inline F as_floats(Pairs x) { return {_mm512_castsi512_ps(x.v)}; }
// Pairs of one element from each.
inline Pairs zip_pairs(__m256i first, __m256i second) {
  const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16);
  return {_mm512_or_si512(_mm512_cvtepu16_epi32(first), high)};
}
inline Pairs zip_pairs(const bf16_t* first, const bf16_t* second) {
  return zip_pairs(_mm256_loadu_si256((const __m256i*)first), _mm256_loadu_si256((const __m256i*)second));
}
inline Pairs zip_pairs(const bf16_t* first, const bf16_t* second, int n) {
  return zip_pairs(_mm256_maskz_loadu_epi16(first_lanes(n), first), _mm256_maskz_loadu_epi16(first_lanes(n), second));
}
STATESPACE_BF16_DOT inline F dot_pairs(F acc, Pairs a, Pairs b) {
  return {_mm512_dpbf16_ps(acc.v, (__m512bh)a.v, (__m512bh)b.v)};
}
// 2 · kLanes floats, rounded, in their order.
STATESPACE_BF16_DOT inline Pairs round_pairs(F first, F second) {
  return {(__m512i)_mm512_cvtne2ps_pbh(second.v, first.v)};
}

}  // namespace statespace::STATESPACE_ISA
