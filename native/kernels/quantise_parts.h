#pragma once
// What the searches for a block's scales share. Vectors of 16 lanes on every machine, summed in one order: a file's
// bytes do not depend on where it was written.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>

#include "core/conversions.h"
#include "isa/simd.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // all that takes or returns vectors is inlined

namespace statespace::STATESPACE_ISA::quantise {

constexpr int kWide = 16;
typedef float Wide __attribute__((vector_size(64)));
typedef int32_t WideInts __attribute__((vector_size(64)));
typedef float Half __attribute__((vector_size(32)));
typedef float Quarter __attribute__((vector_size(16)));

[[gnu::always_inline]] inline Wide wide(float x) { return Wide{} + x; }
[[gnu::always_inline]] inline Wide larger(Wide a, Wide b) { return a > b ? a : b; }
[[gnu::always_inline]] inline Wide smaller(Wide a, Wide b) { return a < b ? a : b; }
[[gnu::always_inline]] inline Wide whole(Wide x) {
  return __builtin_convertvector(__builtin_convertvector(x, WideInts), Wide);
}
[[gnu::always_inline]] inline float total(Wide v) {
  Half halves[2];
  std::memcpy(halves, &v, sizeof v);
  const Half h = halves[0] + halves[1];
  Quarter quarters[2];
  std::memcpy(quarters, &h, sizeof h);
  const Quarter q = quarters[0] + quarters[1];
  return (q[0] + q[2]) + (q[1] + q[3]);
}

// Values with the weights of their squared errors, N vectors.
template <int N>
struct Part {
  Wide x[N], w[N];
  Part(const float* values, const float* weights) {
    std::memcpy(x, values, sizeof x), std::memcpy(w, weights, sizeof w);
  }
  // fn(x, w), of each vector
  template <class Fn>
  [[gnu::always_inline]] void each(Fn&& fn) const {
#pragma GCC unroll 2
    for (int i = 0; i < N; ++i) fn(x[i], w[i]);
  }
};

inline void put_half(uint8_t* to, float x) {
  f16_t half;
  from_float(x, half);
  std::memcpy(to, &half, 2);
}
inline float rounded_half(float x) {
  f16_t half;
  from_float(x, half);
  return to_float(half);
}

// The nearest of 0 … most.
inline int code_of(float scaled, int most) { return int(std::min(std::max(scaled, 0.f), float(most)) + 0.5f); }
[[gnu::always_inline]] inline Wide codes_of(Wide scaled, int most) {
  return whole(smaller(larger(scaled, wide(0)), wide(float(most))) + 0.5f);
}
inline void put_codes(Wide codes, uint8_t* to) {
  const WideInts q = __builtin_convertvector(codes, WideInts);
  for (int i = 0; i < kWide; ++i) to[i] = uint8_t(q[i]);
}

// The best of a few starts, each refitted as long as that helps. start(s) -> Try; improve(t) makes the integers the
// best for its scales and returns the error; refit(t) makes the scales the best for its integers.
template <class Starts, class Start, class Improve, class Refit>
auto best_of(const Starts& starts, Start&& start, Improve&& improve, Refit&& refit) {
  decltype(start(*std::begin(starts))) best;
  float least = INFINITY;
  for (const auto& s : starts) {
    auto t = start(s);
    float error = improve(t);
    for (int round = 0; round < 3; ++round) {
      auto other = t;
      refit(other);
      const float e = improve(other);
      if (!(e < error)) break;
      t = other, error = e;
    }
    if (error < least || least == INFINITY) best = t, least = error;
  }
  return best;
}

}  // namespace statespace::STATESPACE_ISA::quantise
