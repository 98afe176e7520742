#pragma once
// Eight lanes, AVX2 with FMA and F16C.
#include <immintrin.h>

namespace statespace::STATESPACE_ISA {

constexpr int kLanes = 8;
struct F {
  __m256 v;
};
struct M {
  __m256 v;
};

inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F zero() { return {_mm256_setzero_ps()}; }
inline F set(float x) { return {_mm256_set1_ps(x)}; }
inline F load(const float* p) { return {_mm256_loadu_ps(p)}; }
inline F load(const float* p, int n) { return {_mm256_maskload_ps(p, first_lanes(n))}; }
inline void store(float* p, F x) { _mm256_storeu_ps(p, x.v); }
inline void store(float* p, F x, int n) { _mm256_maskstore_ps(p, first_lanes(n), x.v); }

inline F load(const bf16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p)), 16))};
}
inline F load(const f16_t* p) { return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p))}; }
inline void store(bf16_t* p, F x) {
  const __m256i u = _mm256_castps_si256(x.v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  __m256i r = _mm256_srli_epi32(_mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q));
  r = _mm256_blendv_epi8(r, _mm256_set1_epi32(0x7fc0), nan);
  _mm_storeu_si128((__m128i*)p, _mm_packus_epi32(_mm256_castsi256_si128(r), _mm256_extracti128_si256(r, 1)));
}
inline void store(f16_t* p, F x) { _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(x.v, _MM_FROUND_TO_NEAREST_INT)); }
inline F load(const int8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p)))};
}
inline void load_pairs(const bf16_t* p, F& even, F& odd) {
  const __m256i u = _mm256_loadu_si256((const __m256i*)p);
  even = {_mm256_castsi256_ps(_mm256_slli_epi32(u, 16))};
  odd = {_mm256_castsi256_ps(_mm256_and_si256(u, _mm256_set1_epi32(int(0xffff0000))))};
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

inline F operator+(F a, F b) { return {_mm256_add_ps(a.v, b.v)}; }
inline F operator-(F a, F b) { return {_mm256_sub_ps(a.v, b.v)}; }
inline F operator*(F a, F b) { return {_mm256_mul_ps(a.v, b.v)}; }
inline F operator/(F a, F b) { return {_mm256_div_ps(a.v, b.v)}; }
inline F fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
inline F fnma(F a, F b, F c) { return {_mm256_fnmadd_ps(a.v, b.v, c.v)}; }
inline F min(F a, F b) { return {_mm256_min_ps(a.v, b.v)}; }
inline F max(F a, F b) { return {_mm256_max_ps(a.v, b.v)}; }
inline F abs(F a) { return {_mm256_andnot_ps(_mm256_set1_ps(-0.f), a.v)}; }
inline F sqrt(F a) { return {_mm256_sqrt_ps(a.v)}; }
inline F floor(F a) { return {_mm256_floor_ps(a.v)}; }
inline F round(F a) { return {_mm256_round_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
inline F exp2_range(F x) { return min(set(128.f), max(set(-127.f), x)); }  // NaN passes: it is the second operand
inline F exp2_fraction(F x) { return {_mm256_sub_ps(x.v, _mm256_floor_ps(x.v))}; }
inline F times_power(F x, __m256i n) {  // n from -127 to 128
  return {_mm256_mul_ps(x.v, _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23)))};
}
inline F scale2_floor(F p, F x) { return times_power(p, _mm256_cvtps_epi32(_mm256_floor_ps(x.v))); }
inline F scale2(F x, F n) {  // in two factors: 2^128 is no float
  const __m256i whole = _mm256_cvtps_epi32(_mm256_floor_ps(n.v)), half = _mm256_srai_epi32(whole, 1);
  return times_power(times_power(x, half), _mm256_sub_epi32(whole, half));
}
inline F split(F x, F* exponent) {
  const __m256i least = _mm256_set1_epi32(0x3f3504f4), bits = _mm256_castps_si256(x.v);
  const __m256i e = _mm256_srai_epi32(_mm256_sub_epi32(bits, least), 23);
  *exponent = {_mm256_cvtepi32_ps(e)};
  return {_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32(e, 23)))};
}
inline F reciprocal(F x) { return set(1.f) / x; }

constexpr int kTableBits = 3;
struct Table {
  __m256 v;
};
inline Table load_table(const float* p) { return {_mm256_loadu_ps(p)}; }
inline __m256 eighths(F x) { return _mm256_floor_ps(_mm256_mul_ps(x.v, _mm256_set1_ps(8.f))); }
inline F lookup(const Table& t, F x) { return {_mm256_permutevar8x32_ps(t.v, _mm256_cvtps_epi32(eighths(x)))}; }
// The sum with 1.5 · 2^20 has the number of the nearest eighth in its last bits.
inline F lookup_nearest(const Table& t, F a, F b, F* nearest) {
  const __m256 shift = _mm256_set1_ps(0x1.8p20f), at = _mm256_fmadd_ps(a.v, b.v, shift);
  *nearest = {_mm256_sub_ps(at, shift)};
  return {_mm256_permutevar8x32_ps(t.v, _mm256_castps_si256(at))};
}
inline F table_rest(F x) { return {_mm256_fnmadd_ps(eighths(x), _mm256_set1_ps(0.125f), x.v)}; }
inline float sum(F a) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline F sums(const F (&r)[kLanes]) {
  __m256 t[4], u[2];
  for (int i = 0; i < 4; ++i)  // pairs of rows, within halves
    t[i] =
        _mm256_add_ps(_mm256_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v), _mm256_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v));
  for (int i = 0; i < 2; ++i)  // four rows, a sum of each half
    u[i] =
        _mm256_add_ps(_mm256_shuffle_ps(t[2 * i], t[2 * i + 1], 0x44), _mm256_shuffle_ps(t[2 * i], t[2 * i + 1], 0xee));
  return {_mm256_add_ps(_mm256_permute2f128_ps(u[0], u[1], 0x20), _mm256_permute2f128_ps(u[0], u[1], 0x31))};
}
inline float max_of(F a) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(a.v), _mm256_extractf128_ps(a.v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_shuffle_ps(s, s, 1)));
}
inline void transpose(F (&r)[kLanes]) {
  __m256 t[8], u[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm256_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  for (int i = 0; i < 8; i += 4)  // u[i + c]: column c of both halves, four rows each
    for (int h = 0; h < 2; ++h) {
      u[i + 2 * h] = _mm256_shuffle_ps(t[i + h], t[i + 2 + h], 0x44);
      u[i + 2 * h + 1] = _mm256_shuffle_ps(t[i + h], t[i + 2 + h], 0xee);
    }
  for (int c = 0; c < 4; ++c) {
    r[c] = {_mm256_permute2f128_ps(u[c], u[4 + c], 0x20)};
    r[4 + c] = {_mm256_permute2f128_ps(u[c], u[4 + c], 0x31)};
  }
}
inline void load_threes(const float* p, F (&x)[3]) {
  const __m256i at = _mm256_setr_epi32(0, 3, 6, 9, 12, 15, 18, 21);
  for (int i = 0; i < 3; ++i) x[i] = {_mm256_i32gather_ps(p + i, at, 4)};
}
inline void load_fours(const float* p, F (&x)[4]) {
  const __m256i at = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
  for (int i = 0; i < 4; ++i) x[i] = {_mm256_i32gather_ps(p + i, at, 4)};
}
inline void store_threes(float* p, F a, F b, F c) {
  alignas(32) float x[3][8];
  _mm256_store_ps(x[0], a.v), _mm256_store_ps(x[1], b.v), _mm256_store_ps(x[2], c.v);
  for (int i = 0; i < 24; ++i) p[i] = x[i % 3][i / 3];
}
inline M less(F a, F b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
inline F select(M m, F a, F b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }
#if defined(__GNUC__)
// gcc 12 takes a function that does nothing but prefetch for one without effect and leaves out its calls.
inline void prefetch(const void* p) { asm volatile("prefetcht1 %0" : : "m"(*static_cast<const char*>(p))); }
#else
inline void prefetch(const void* p) { _mm_prefetch((const char*)p, _MM_HINT_T1); }
#endif

}  // namespace statespace::STATESPACE_ISA
