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
inline void load_nibbles(const uint8_t* p, F& low, F& high) {
  low = {float(int(*p & 15) - 8)};
  high = {float(int(*p >> 4) - 8)};
}
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
inline F scale2(F x, F n) { return {x.v * bits_to_float(uint32_t(int32_t(n.v) + 127) << 23)}; }
inline F scale2_floor(F p, F x) { return scale2(p, floor(x)); }
inline F exponent(F x) { return {float(int32_t(float_to_bits(x.v) >> 23) - 127)}; }
inline F mantissa(F x) { return {bits_to_float((float_to_bits(x.v) & 0x7fffff) | 0x3f800000)}; }
inline float sum(F a) { return a.v; }
inline float max_of(F a) { return a.v; }
inline void transpose(F (&)[kLanes]) {}
inline M less(F a, F b) { return {a.v < b.v}; }
inline F select(M m, F a, F b) { return m.v ? a : b; }
inline void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

}  // namespace statespace::STATESPACE_ISA
