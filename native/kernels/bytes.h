#pragma once
// Vectors of 4·kLanes bytes for products of codes by int8, beside the floats of isa/simd.h. Bytes: load_bytes(p)
// field<shift, bits, to>(b): bits [shift, shift + bits) of every byte, moved to bit `to`   a | b   store_bytes(p, b)
// lookup(table, b): entry b of a table of 16 that fills every 16 bytes   set_quad(p): four bytes, over and over
// Ints: kLanes sums of 32 bits; set_int(x)   to_float(i)   widen(uint8_t*): kLanes floats   narrow(int8_t*, f): whole
// floats of magnitude up to 127   each_byte<i>(b): byte i of every four   store_ints(p, f): whole floats as integers,
// NaN as any   maxima(rows): lane i is the largest of row i of kLanes vectors.
//
// dot(sums, codes, x): sums + codes·x in fours, codes unsigned (NEON: signed), x from -127 to 127, exact:
// DotInstruction where has_int8_dot(), DotAny. DotSums<n>, for codes so small that n products of fours fit into 16 bits
// (Form::run()), on x86: first(codes, x) and add(pairs, codes, x), n in all, then widen(pairs), the sums of fours.
// DotWords for other codes on x86: split_words(b, even, odd), codes less 128 as 16 bits, and dot() of two inputs at a
// time.
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "isa/simd.h"

#if defined(_MSC_VER)
#include <intrin.h>
#elif defined(STATESPACE_ISA_AVX2) || defined(STATESPACE_ISA_AVX512)
#include <cpuid.h>
#endif

namespace statespace::STATESPACE_ISA {

constexpr int kByteLanes = 4 * kLanes;

// STATESPACE_INT8_DOT=off: as on a machine without the instruction, for tests.
inline bool int8_dot_wanted() {
  const char* text = std::getenv("STATESPACE_INT8_DOT");
  return !text || std::strcmp(text, "off") != 0;
}

inline F maxima_by_columns(F (&rows)[kLanes]) {
  transpose(rows);
  F most = rows[0];
  for (int i = 1; i < kLanes; ++i) most = max(most, rows[i]);
  return most;
}

#if defined(STATESPACE_ISA_AVX512)

struct Bytes {
  __m512i v;
};
struct Ints {
  __m512i v;
};
inline Bytes load_bytes(const void* p) { return {_mm512_loadu_si512(p)}; }
inline void store_bytes(void* p, Bytes b) { _mm512_storeu_si512(p, b.v); }
template <int shift, int bits, int to = 0>
inline Bytes field(Bytes b) {
  __m512i v = b.v;
  if constexpr (shift > to) v = _mm512_srli_epi16(v, shift - to);
  if constexpr (shift < to) v = _mm512_slli_epi16(v, to - shift);
  return {_mm512_and_si512(v, _mm512_set1_epi8(char(((1 << bits) - 1) << to)))};
}
inline Bytes operator|(Bytes a, Bytes b) { return {_mm512_or_si512(a.v, b.v)}; }
inline Bytes load_table(const uint8_t* p) {
  return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Bytes lookup(Bytes table, Bytes b) { return {_mm512_shuffle_epi8(table.v, b.v)}; }
inline Bytes set_quad(const int32_t* p) { return {_mm512_set1_epi32(*p)}; }
inline Ints set_int(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline Ints load_ints(const int32_t* p) { return {_mm512_loadu_si512(p)}; }
inline Ints operator+(Ints a, Ints b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline F to_float(Ints i) { return {_mm512_cvtepi32_ps(i.v)}; }
template <int i>
inline F each_byte(Bytes b) {
  return {_mm512_cvtepi32_ps(_mm512_and_si512(_mm512_srli_epi32(b.v, 8 * i), _mm512_set1_epi32(255)))};
}
inline F widen(const uint8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
inline void narrow(int8_t* p, F x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
inline void store_ints(void* p, F x) { _mm512_storeu_si512(p, _mm512_cvtps_epi32(x.v)); }
// Half the shuffles of a transposed square, as sums() does it.
inline F maxima(F (&r)[kLanes]) {
  __m512 t[8], u[4];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i)
    t[i] =
        _mm512_max_ps(_mm512_unpacklo_ps(r[2 * i].v, r[2 * i + 1].v), _mm512_unpackhi_ps(r[2 * i].v, r[2 * i + 1].v));
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[2 * i]), b = _mm512_castps_pd(t[2 * i + 1]);
    u[i] = _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  auto quarters = [](__m512 a, __m512 b) {
    return _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return {quarters(quarters(u[0], u[1]), quarters(u[2], u[3]))};
}
// 2^(e - 128) of exponents, the two denormal ones as 0.
inline F powers(const uint8_t* p) {
  const __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  const __m512i one = _mm512_set1_epi32(1);
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_sub_epi32(_mm512_max_epi32(e, one), one), 23))};
}
inline bool has_int8_dot() {
#if defined(_MSC_VER)
  static const bool has = [] {
    int r[4];
    __cpuidex(r, 7, 0);
    return bool(r[2] >> 11 & 1) && int8_dot_wanted();
  }();
#else
  static const bool has = __builtin_cpu_supports("avx512vnni") && int8_dot_wanted();
#endif
  return has;
}
// Written out: a function for machines that have the instruction could not be inlined into one for all.
struct DotInstruction {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
#if defined(_MSC_VER) && !defined(__clang__)
    return {_mm512_dpbusd_epi32(sums.v, codes.v, x.v)};
#else
    asm("vpdpbusd %2, %1, %0" : "+v"(sums.v) : "v"(codes.v), "v"(x.v));
    return sums;
#endif
  }
};
// Sums as they are added: gcc 12 brings additions of many steps together behind them, and keeps what is to be added in
// memory until then (AVX2 tiles of three rows: 80 · 10⁹ products a second of small codes, in order 98; of others 43,
// 66).
inline Ints in_order(Ints sums) {
#if !defined(_MSC_VER) || defined(__clang__)
  asm("" : "+v"(sums.v));
#endif
  return sums;
}
template <int kRun_>
struct DotSums {
  static constexpr int kRun = kRun_;
  static Ints first(Bytes codes, Bytes x) { return in_order({_mm512_maddubs_epi16(codes.v, x.v)}); }
  static Ints add(Ints pairs, Bytes codes, Bytes x) {
    return in_order({_mm512_add_epi16(pairs.v, _mm512_maddubs_epi16(codes.v, x.v))});
  }
  static Ints widen(Ints pairs) { return {_mm512_madd_epi16(pairs.v, _mm512_set1_epi16(1))}; }
};
struct DotAny {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    const __m512i even = _mm512_madd_epi16(_mm512_and_si512(codes.v, _mm512_set1_epi16(255)),
                                           _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(codes.v, 8), _mm512_srai_epi16(x.v, 8));
    return in_order({_mm512_add_epi32(sums.v, _mm512_add_epi32(even, odd))});
  }
};

struct DotWords {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    return in_order({_mm512_add_epi32(sums.v, _mm512_madd_epi16(codes.v, x.v))});
  }
};
inline void split_words(Bytes b, Bytes& even, Bytes& odd) {
  const __m512i v = _mm512_xor_si512(b.v, _mm512_set1_epi8(char(128)));
  even = {_mm512_srai_epi16(_mm512_slli_epi16(v, 8), 8)}, odd = {_mm512_srai_epi16(v, 8)};
}

#elif defined(STATESPACE_ISA_AVX2)

struct Bytes {
  __m256i v;
};
struct Ints {
  __m256i v;
};
inline Bytes load_bytes(const void* p) { return {_mm256_loadu_si256(static_cast<const __m256i*>(p))}; }
inline void store_bytes(void* p, Bytes b) { _mm256_storeu_si256(static_cast<__m256i*>(p), b.v); }
template <int shift, int bits, int to = 0>
inline Bytes field(Bytes b) {
  __m256i v = b.v;
  if constexpr (shift > to) v = _mm256_srli_epi16(v, shift - to);
  if constexpr (shift < to) v = _mm256_slli_epi16(v, to - shift);
  return {_mm256_and_si256(v, _mm256_set1_epi8(char(((1 << bits) - 1) << to)))};
}
inline Bytes operator|(Bytes a, Bytes b) { return {_mm256_or_si256(a.v, b.v)}; }
inline Bytes load_table(const uint8_t* p) {
  return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)))};
}
inline Bytes lookup(Bytes table, Bytes b) { return {_mm256_shuffle_epi8(table.v, b.v)}; }
inline Bytes set_quad(const int32_t* p) { return {_mm256_set1_epi32(*p)}; }
inline Ints set_int(int32_t x) { return {_mm256_set1_epi32(x)}; }
inline Ints operator+(Ints a, Ints b) { return {_mm256_add_epi32(a.v, b.v)}; }
inline F to_float(Ints i) { return {_mm256_cvtepi32_ps(i.v)}; }
template <int i>
inline F each_byte(Bytes b) {
  return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(b.v, 8 * i), _mm256_set1_epi32(255)))};
}
inline F widen(const uint8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))))};
}
inline void narrow(int8_t* p, F x) {
  const __m256i i = _mm256_cvtps_epi32(x.v);
  const __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(half, half));
}
inline void store_ints(void* p, F x) { _mm256_storeu_si256(static_cast<__m256i*>(p), _mm256_cvtps_epi32(x.v)); }
inline F maxima(F (&r)[kLanes]) { return maxima_by_columns(r); }
inline F powers(const uint8_t* p) {
  const __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  const __m256i one = _mm256_set1_epi32(1);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_sub_epi32(_mm256_max_epi32(e, one), one), 23))};
}
// AVX-VNNI.
inline bool has_int8_dot() {
  static const bool has = [] {
#if defined(_MSC_VER)
    int r[4];
    __cpuidex(r, 7, 1);
    return bool(r[0] >> 4 & 1) && int8_dot_wanted();
#else
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1) && int8_dot_wanted();
#endif
  }();
  return has;
}
struct DotInstruction {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
#if defined(_MSC_VER) && !defined(__clang__)
    return {_mm256_dpbusd_avx_epi32(sums.v, codes.v, x.v)};
#else
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums.v) : "x"(codes.v), "x"(x.v));
    return sums;
#endif
  }
};
inline Ints in_order(Ints sums) {
#if !defined(_MSC_VER) || defined(__clang__)
  asm("" : "+x"(sums.v));
#endif
  return sums;
}
template <int kRun_>
struct DotSums {
  static constexpr int kRun = kRun_;
  static Ints first(Bytes codes, Bytes x) { return in_order({_mm256_maddubs_epi16(codes.v, x.v)}); }
  static Ints add(Ints pairs, Bytes codes, Bytes x) {
    return in_order({_mm256_add_epi16(pairs.v, _mm256_maddubs_epi16(codes.v, x.v))});
  }
  static Ints widen(Ints pairs) { return {_mm256_madd_epi16(pairs.v, _mm256_set1_epi16(1))}; }
};
struct DotAny {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(codes.v, _mm256_set1_epi16(255)),
                                           _mm256_srai_epi16(_mm256_slli_epi16(x.v, 8), 8));
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(codes.v, 8), _mm256_srai_epi16(x.v, 8));
    return in_order({_mm256_add_epi32(sums.v, _mm256_add_epi32(even, odd))});
  }
};

struct DotWords {
  static Ints dot(Ints sums, Bytes codes, Bytes x) {
    return in_order({_mm256_add_epi32(sums.v, _mm256_madd_epi16(codes.v, x.v))});
  }
};
inline void split_words(Bytes b, Bytes& even, Bytes& odd) {
  const __m256i v = _mm256_xor_si256(b.v, _mm256_set1_epi8(char(128)));
  even = {_mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8)}, odd = {_mm256_srai_epi16(v, 8)};
}

#elif !defined(STATESPACE_ISA_NEON)

struct Bytes {
  uint8_t v[kByteLanes];
};
struct Ints {
  int32_t v[kLanes];
};
inline Bytes load_bytes(const void* p) {
  Bytes b;
  std::memcpy(b.v, p, sizeof b.v);
  return b;
}
inline void store_bytes(void* p, Bytes b) { std::memcpy(p, b.v, sizeof b.v); }
template <int shift, int bits, int to = 0>
inline Bytes field(Bytes b) {
  for (uint8_t& x : b.v) x = uint8_t((x >> shift & ((1 << bits) - 1)) << to);
  return b;
}
inline Bytes operator|(Bytes a, Bytes b) {
  for (int i = 0; i < kByteLanes; ++i) a.v[i] |= b.v[i];
  return a;
}
struct ByteTable {
  uint8_t v[16];
};
inline ByteTable load_table(const uint8_t* p) {
  ByteTable t;
  std::memcpy(t.v, p, 16);
  return t;
}
inline Bytes lookup(const ByteTable& t, Bytes b) {
  for (uint8_t& x : b.v) x = t.v[x];
  return b;
}
inline Bytes set_quad(const int32_t* p) {
  Bytes b;
  for (int i = 0; i < kLanes; ++i) std::memcpy(b.v + 4 * i, p, 4);
  return b;
}
inline Ints set_int(int32_t x) {
  Ints r;
  for (int32_t& v : r.v) v = x;
  return r;
}
inline F to_float(const Ints& i) {
  float f[kLanes];
  for (int j = 0; j < kLanes; ++j) f[j] = float(i.v[j]);
  return load(f);
}
template <int i>
inline F each_byte(const Bytes& b) {
  float f[kLanes];
  for (int j = 0; j < kLanes; ++j) f[j] = float(b.v[4 * j + i]);
  return load(f);
}
inline F widen(const uint8_t* p) {
  float f[kLanes];
  for (int j = 0; j < kLanes; ++j) f[j] = float(p[j]);
  return load(f);
}
inline void narrow(int8_t* p, F x) {
  float f[kLanes];
  store(f, x);
  for (int j = 0; j < kLanes; ++j) p[j] = f[j] >= -128 && f[j] <= 127 ? int8_t(f[j]) : int8_t(0);
}
inline void store_ints(void* p, F x) {
  float f[kLanes];
  store(f, x);
  int32_t i[kLanes];
  for (int j = 0; j < kLanes; ++j) i[j] = std::fabs(f[j]) < 0x1p30f ? int32_t(f[j]) : 0;
  std::memcpy(p, i, sizeof i);
}
inline F maxima(F (&r)[kLanes]) { return maxima_by_columns(r); }
inline F powers(const uint8_t* p) {
  float f[kLanes];
  for (int j = 0; j < kLanes; ++j) f[j] = bits_to_float(uint32_t(p[j] > 1 ? p[j] - 1 : 0) << 23);
  return load(f);
}
inline bool has_int8_dot() { return false; }
struct DotAny {
  static Ints dot(Ints sums, const Bytes& codes, const Bytes& x) {
    for (int i = 0; i < kLanes; ++i)
      for (int j = 0; j < 4; ++j) sums.v[i] += int32_t(codes.v[4 * i + j]) * int8_t(x.v[4 * i + j]);
    return sums;
  }
};
template <int>
using DotSums = DotAny;
using DotInstruction = DotAny;

#endif

#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_AVX2)
#define STATESPACE_WORDS
// 32 bytes as words, even ones first.
inline void split_words(const int8_t* p, int32_t* to) {
  const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  auto* words = reinterpret_cast<__m256i*>(to);
  _mm256_storeu_si256(words, _mm256_srai_epi16(_mm256_slli_epi16(v, 8), 8));
  _mm256_storeu_si256(words + 1, _mm256_srai_epi16(v, 8));
}
#endif

}  // namespace statespace::STATESPACE_ISA

#if defined(STATESPACE_ISA_NEON)
#include "kernels/bytes_neon.h"
#endif
