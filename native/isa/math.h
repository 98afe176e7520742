#pragma once
// Elementary functions over the vector type. Errors given were measured against f64 by native/tests/math_test.cc.
#include "isa/simd.h"
#include "ops/activations.h"

namespace statespace::STATESPACE_ISA {

template <int N>
inline F polynomial(F x, const float (&c)[N]) {
  F y = set(c[N - 1]);
#pragma GCC unroll 16  // gcc 12 at -O2 else keeps the loop, and copies the constants to the stack for it
  for (int i = N - 2; i >= 0; --i) y = fma(y, x, set(c[i]));
  return y;
}

// 2^x, at most 2 ulp; 0 below -127, infinity from 128. Degree 6: no degree 5 stays within 2 ulp.
inline F exp2(F x) {
  constexpr float kC[] = {1.00000000185580f, 0.69314698384044f, 0.24022983627589f, 0.05548334197773f,
                          0.00967884100701f, 0.00124396877475f, 0.00021702255680f};
  const F y = exp2_range(x);
  return scale2_floor(polynomial(exp2_fraction(y), kC), y);
}

// e^x, at most 2 ulp: the product x·log2(e) in two parts.
inline F exp(F x) {
  constexpr float kC[] = {1.00000000055417f, 0.69314720573725f, 0.24022646890640f, 0.05550328776998f,
                          0.00961848895650f, 0.00133999312094f, 0.00015345812165f};
  const F y = min(set(88.8f), max(set(-88.f), x));
  const F n = round(y * set(1.44269504f));
  F r = fnma(n, set(0.693359375f), y);  // ln 2 = 0.693359375 - 2.12194440e-4
  r = fma(n, set(2.12194440e-4f), r);
  const F half = floor(n * set(0.5f));  // 2^n in two factors: n reaches 128
  return scale2(scale2(polynomial(r * set(1.44269504f), kC), half), n - half);
}

// ln x for normal x > 0.
inline F log(F x) {
  constexpr float kC[] = {0.99999997418968f,  -0.49999987964119f, 0.33334185623954f,
                          -0.25002074071620f, 0.19956833611084f,  -0.16562393071313f,
                          0.14952266160034f,  -0.14366842905982f, 0.08722356684359f};
  F e = exponent(x), m = mantissa(x);
  const M big = less(set(1.41421356f), m);
  m = select(big, m * set(0.5f), m);
  e = select(big, e + set(1.f), e);
  const F t = m - set(1.f);
  return fma(e, set(0.69314718f), t * polynomial(t, kC));
}

// log(1 + x) for x >= 0: the rounding of 1 + x is put back to first order.
inline F log1p(F x) {
  const F y = set(1.f) + x;
  return log(y) + (x - (y - set(1.f))) / y;
}

// log(1 + e^x), x itself above 20 (as PyTorch has it).
inline F softplus(F x) { return select(less(set(20.f), x), x, log1p(exp(min(set(20.f), x)))); }

inline F sigmoid(F x) { return set(1.f) / (set(1.f) + exp(zero() - x)); }
inline F silu(F x) { return x / (set(1.f) + exp(zero() - x)); }

inline F tanh(F x) {
  constexpr float kSmall[] = {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f, 2.06390887954e-2f,
                              -5.70498872745e-3f};
  const F a = abs(x), z = x * x;
  const F large = set(1.f) - set(2.f) / (exp(a + a) + set(1.f));
  return select(less(a, set(0.625f)), fma(x * z, polynomial(z, kSmall), x),
                select(less(x, zero()), zero() - large, large));
}

// erf by its series below 1 and erfc's asymptotic form above.
inline F erf(F x) {
  constexpr float kSeries[] = {1.128379165726710e+0f,  -3.761262582423300e-1f, 1.128358514861418e-1f,
                               -2.685381193529856e-2f, 5.188327685732524e-3f,  -8.010193625184903e-4f,
                               7.853861353153693e-5f};
  constexpr float kMiddle[] = {5.638259427386472e-1f,  -2.741127028184656e-1f, 3.404879937665872e-1f,
                               -4.944515323274145e-1f, 6.210004621745983e-1f,  -5.824733027278666e-1f,
                               3.687424674597105e-1f,  -1.387039388740657e-1f, 2.326819970068386e-2f};
  const F a = abs(x), z = x * x;
  const F b = max(set(1.f), min(set(4.f), a)), q = set(1.f) / (b * b);
  const F large = set(1.f) - exp(zero() - b * b) / b * polynomial(q, kMiddle);
  return select(less(a, set(1.f)), x * polynomial(z, kSeries), select(less(x, zero()), zero() - large, large));
}

inline F gelu(F x) { return set(0.5f) * x * (set(1.f) + erf(x * set(0.70710678f))); }
inline F gelu_tanh(F x) {
  return set(0.5f) * x * (set(1.f) + tanh(set(0.79788456f) * fma(set(0.044715f) * x * x, x, x)));
}

// Calls fn(f) with f the activation as a function object, so that a kernel's loop is compiled once per function.
template <class Fn>
inline void with_activation(int32_t which, Fn&& fn) {
  switch (static_cast<Activation>(which)) {
    case Activation::none:
      return fn([](F x) { return x; });
    case Activation::silu:
      return fn([](F x) { return silu(x); });
    case Activation::gelu:
      return fn([](F x) { return gelu(x); });
    case Activation::gelu_tanh:
      return fn([](F x) { return gelu_tanh(x); });
    case Activation::sigmoid:
      return fn([](F x) { return sigmoid(x); });
    case Activation::tanh:
      return fn([](F x) { return tanh(x); });
    case Activation::relu:
      return fn([](F x) { return max(zero(), x); });
    case Activation::relu2:
      return fn([](F x) { return max(zero(), x) * max(zero(), x); });
    case Activation::exp:
      return fn([](F x) { return exp(x); });
    case Activation::softplus:
      return fn([](F x) { return softplus(x); });
  }
}

}  // namespace statespace::STATESPACE_ISA
