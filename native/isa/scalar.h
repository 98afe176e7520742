#pragma once
// One lane: the reference for the vector forms, and the fallback of machines that we do not know.
#include <algorithm>

namespace statespace::STATESPACE_ISA {

constexpr int kLanes = 1;
struct F {
  float v;
};
struct M {
  bool v;
};

inline F zero() { return {0.f}; }
inline F set(float x) { return {x}; }
template <class T>
inline F load(const T* p) {
  return {to_float(*p)};
}
template <class T>
inline F load(const T* p, int n) {
  return {n > 0 ? to_float(*p) : 0.f};
}
inline F load(const int8_t* p) { return {float(*p)}; }
inline void load_pairs(const bf16_t* p, F& even, F& odd) {
  even = {to_float(p[0])};
  odd = {to_float(p[1])};
}
template <class T>
inline void store(T* p, F x) {
  from_float(x.v, *p);
}
template <class T>
inline void store(T* p, F x, int n) {
  if (n > 0) from_float(x.v, *p);
}
inline F operator+(F a, F b) { return {a.v + b.v}; }
inline F operator-(F a, F b) { return {a.v - b.v}; }
inline F operator*(F a, F b) { return {a.v * b.v}; }
inline F operator/(F a, F b) { return {a.v / b.v}; }
inline F fma(F a, F b, F c) { return {a.v * b.v + c.v}; }
inline F fnma(F a, F b, F c) { return {c.v - a.v * b.v}; }
inline F min(F a, F b) { return {a.v < b.v ? a.v : b.v}; }
inline F max(F a, F b) { return {a.v > b.v ? a.v : b.v}; }
inline F abs(F a) { return {std::fabs(a.v)}; }
inline F sqrt(F a) { return {std::sqrt(a.v)}; }
inline F floor(F a) { return {std::floor(a.v)}; }
inline F round(F a) { return {std::nearbyint(a.v)}; }
inline F exp2_range(F x) { return min(set(128.f), max(set(-127.f), x)); }  // NaN passes: it is the second operand
inline F exp2_fraction(F x) { return {x.v - std::floor(x.v)}; }
inline F times_power(F x, int32_t n) { return {x.v * bits_to_float(uint32_t(n + 127) << 23)}; }  // n from -127 to 128
inline F scale2_floor(F p, F x) { return times_power(p, int32_t(std::floor(x.v))); }
inline F scale2(F x, F n) {  // in two factors: 2^128 is no float
  const int32_t whole = int32_t(n.v), half = whole >> 1;
  return times_power(times_power(x, half), whole - half);
}
inline F split(F x, F* exponent) {
  const int32_t bits = int32_t(float_to_bits(x.v)), e = (bits - 0x3f3504f4) >> 23;
  *exponent = {float(e)};
  return {bits_to_float(uint32_t(bits) - (uint32_t(e) << 23))};
}
inline F reciprocal(F x) { return {1 / x.v}; }
inline float sum(F a) { return a.v; }
inline F sums(const F (&r)[kLanes]) { return r[0]; }
inline float max_of(F a) { return a.v; }
inline void transpose(F (&)[kLanes]) {}
inline void load_threes(const float* p, F (&x)[3]) {
  for (int i = 0; i < 3; ++i) x[i] = {p[i]};
}
inline void load_fours(const float* p, F (&x)[4]) {
  for (int i = 0; i < 4; ++i) x[i] = {p[i]};
}
inline void store_threes(float* p, F a, F b, F c) { p[0] = a.v, p[1] = b.v, p[2] = c.v; }
inline M less(F a, F b) { return {a.v < b.v}; }
inline F select(M m, F a, F b) { return m.v ? a : b; }
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace statespace::STATESPACE_ISA
