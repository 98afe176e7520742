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

// 2^x and e^x: 2^n · 2^(i/parts) · P(rest), with the middle factor from a table in registers where the machine has room
// for one, which leaves degree 2 or 3 to P where it is 6 else (no degree 5 stays within 2 ulp). The value of P at 0 is
// in the table. The product x·log2(e) of e^x is taken in two parts.
#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_AVX2)
struct Parts {
  float v[1 << kTableBits];
};
constexpr Parts parts_of_2(double first) {
  double step = 2;
  for (int n = 0; n < kTableBits; ++n) {
    double root = 1.5;
    for (int i = 0; i < 60; ++i) root = (root + step / root) / 2;
    step = root;
  }
  Parts parts{};
  for (float& part : parts.v) part = float(first), first *= step;
  return parts;
}
#if defined(STATESPACE_ISA_AVX512)
inline constexpr Parts kExp2Parts = parts_of_2(1.000000052932552), kExpParts = parts_of_2(1.000000000430817);
inline constexpr float kExp2Rest[] = {0.69311652588f, 0.24284060895f}, kExpRest[] = {1.0000146768f, 0.49999633078f};
#else
inline constexpr Parts kExp2Parts = parts_of_2(0.9999999816562729), kExpParts = parts_of_2(0.9999999816305914);
inline constexpr float kExp2Rest[] = {0.69315195835f, 0.24003471780f, 0.05795604792f},
                       kExpRest[] = {1.00000004043f, 0.50007826679f, 0.16665101244f};
#endif

// 2^x, at most 2 ulp; 0 below -127, infinity from 128.
inline F exp2(F x) {
  const Table parts = load_table(kExp2Parts.v);
  const F y = exp2_range(x), part = lookup(parts, y), rest = table_rest(y);
  return scale2_floor(fma(part * rest, polynomial(rest, kExp2Rest), part), y);
}

// e^x for x from -88 to 88.8; ln 2 = 0.693359375 - 2.12194440e-4.
inline F exp_in_range(F x) {
  const Table parts = load_table(kExpParts.v);
  F n;
  const F part = lookup_nearest(parts, x, set(1.44269504f), &n);
  F r = fnma(n, set(0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  return scale2(fma(part * r, polynomial(r, kExpRest), part), n);
}
#else
inline F exp2(F x) {
  constexpr float kC[] = {1.00000000185580f, 0.69314698384044f, 0.24022983627589f, 0.05548334197773f,
                          0.00967884100701f, 0.00124396877475f, 0.00021702255680f};
  const F y = exp2_range(x);
  return scale2_floor(polynomial(exp2_fraction(y), kC), y);
}
inline F exp_in_range(F x) {
  constexpr float kC[] = {1.00000000055461f, 1.00000003634464f, 0.49999992075101f, 0.16666420072445f,
                          0.04166822618847f, 0.00837482403066f, 0.00138368357448f};
  const F n = round(x * set(1.44269504f));
  F r = fnma(n, set(0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  return scale2(polynomial(r, kC), n);
}
#endif

// e^x, at most 2 ulp.
inline F exp(F x) { return exp_in_range(min(set(88.8f), max(set(-88.f), x))); }

// ln x for normal x > 0.
inline F log(F x) {
  constexpr float kC[] = {0.99999997418968f,  -0.49999987964119f, 0.33334185623954f,
                          -0.25002074071620f, 0.19956833611084f,  -0.16562393071313f,
                          0.14952266160034f,  -0.14366842905982f, 0.08722356684359f};
  F e;
  const F t = split(x, &e) - set(1.f);
  return fma(e, set(0.69314718f), t * polynomial(t, kC));
}

// log(1 + x) for x >= 0: the rounding of 1 + x is put back to first order.
inline F log1p(F x) {
  const F y = set(1.f) + x;
  return fma(x - (y - set(1.f)), reciprocal(y), log(y));
}

// log(1 + e^x), x itself above 20 (as PyTorch has it).
inline F softplus_of(F x, F exp_of_x) { return select(less(set(20.f), x), x, log1p(exp_of_x)); }
inline F softplus(F x) { return softplus_of(x, exp(min(set(20.f), x))); }

// 1 + e^-x, finite for every x.
inline F sigmoid_below(F x) { return set(1.f) + exp_in_range(zero() - min(set(88.f), max(set(-87.f), x))); }
inline F sigmoid(F x) { return reciprocal(sigmoid_below(x)); }
inline F silu(F x) { return x * reciprocal(sigmoid_below(x)); }

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
