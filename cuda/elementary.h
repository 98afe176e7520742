#pragma once
// Elementary functions of kernels, as native/isa/math.h has them for the CPU.
#include "device.h"
#include "ops/activations.h"

namespace statespace::cuda {

constexpr float kLog2e = 1.44269504f;

// log(1 + e^x), x itself above 20 (as PyTorch has it).
__device__ inline float softplus(float x) { return x > 20 ? x : log1pf(expf(x)); }
__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }
__device__ inline float silu(float x) { return x / (1 + expf(-x)); }

__device__ inline float activate(Activation which, float x) {
  switch (which) {
    case Activation::none:
      return x;
    case Activation::silu:
      return silu(x);
    case Activation::gelu:
      return 0.5f * x * (1 + erff(x * 0.70710678f));
    case Activation::gelu_tanh:
      return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
    case Activation::sigmoid:
      return sigmoid(x);
    case Activation::tanh:
      return tanhf(x);
    case Activation::relu:
      return fmaxf(x, 0);
    case Activation::relu2:
      return fmaxf(x, 0) * fmaxf(x, 0);
    case Activation::exp:
      return expf(x);
    case Activation::softplus:
      return softplus(x);
  }
  return x;
}

}  // namespace statespace::cuda
