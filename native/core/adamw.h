#pragma once
// AdamW by an instruction set's own instructions (Loshchilov & Hutter 2019), and the squares that gradients are clipped
// by, for native/program/trainer.
#include <cstdint>

namespace statespace {

struct AdamWStep {
  float clip;          // what gradients are multiplied by
  float beta1, beta2;  // of the means of gradients and of their squares
  float rest1, rest2;  // 1 - beta
  float keep;          // 1 - learning rate · decay, or 1
  float rate, root;    // learning rate / (1 - beta1^t), 1 / sqrt(1 - beta2^t)
  float eps;
};

struct Optimizer {
  // g = clip · gradient, m = β₁ m + (1 - β₁) g, v = β₂ v + (1 - β₂) g², w = keep · w - rate · m / (root · √v + eps).
  void (*adamw)(const AdamWStep& step, const float* gradient, int64_t count, float* w, float* m, float* v);
  // Σ gradient², in doubles: every eighth value has a sum of its own, and those are added in their order.
  double (*squares)(const float* gradient, int64_t count);
};

// This machine's, in native/backend.
const Optimizer& optimizer();

}  // namespace statespace
