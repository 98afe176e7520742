#pragma once
// Derivatives of the activations.
#include "isa/math.h"

namespace statespace::STATESPACE_ISA {

inline F silu_gradient(F x) {
  const F s = sigmoid(x);
  return s * fma(x, set(1.f) - s, set(1.f));
}
inline F gelu_gradient(F x) {  // Φ(x) + x φ(x)
  const F density = set(0.39894228f) * exp(set(-0.5f) * x * x);
  return fma(x, density, set(0.5f) * (set(1.f) + erf(x * set(0.70710678f))));
}
inline F gelu_tanh_gradient(F x) {
  const F t = tanh(set(0.79788456f) * fma(set(0.044715f) * x * x, x, x));
  const F inner = set(0.79788456f) * fma(set(3 * 0.044715f) * x, x, set(1.f));
  return set(0.5f) * fma(x * (set(1.f) - t * t), inner, set(1.f) + t);
}
// softplus is x itself above 20.
inline F softplus_gradient(F x) { return select(less(set(20.f), x), set(1.f), sigmoid(x)); }

// Calls fn(f, f') for an activation and its derivative.
template <class Fn>
inline void with_activation_gradient(int32_t which, Fn&& fn) {
  switch (static_cast<Activation>(which)) {
    case Activation::none:
      return fn([](F x) { return x; }, [](F) { return set(1.f); });
    case Activation::silu:
      return fn([](F x) { return silu(x); }, [](F x) { return silu_gradient(x); });
    case Activation::gelu:
      return fn([](F x) { return gelu(x); }, [](F x) { return gelu_gradient(x); });
    case Activation::gelu_tanh:
      return fn([](F x) { return gelu_tanh(x); }, [](F x) { return gelu_tanh_gradient(x); });
    case Activation::sigmoid:
      return fn([](F x) { return sigmoid(x); },
                [](F x) {
                  const F s = sigmoid(x);
                  return s * (set(1.f) - s);
                });
    case Activation::tanh:
      return fn([](F x) { return tanh(x); },
                [](F x) {
                  const F t = tanh(x);
                  return set(1.f) - t * t;
                });
    case Activation::relu:
      return fn([](F x) { return max(zero(), x); }, [](F x) { return select(less(zero(), x), set(1.f), zero()); });
    case Activation::relu2:
      return fn([](F x) { return max(zero(), x) * max(zero(), x); }, [](F x) { return set(2.f) * max(zero(), x); });
    case Activation::exp:
      return fn([](F x) { return exp(x); }, [](F x) { return exp(x); });
    case Activation::softplus:
      return fn([](F x) { return softplus(x); }, [](F x) { return softplus_gradient(x); });
  }
}

}  // namespace statespace::STATESPACE_ISA
