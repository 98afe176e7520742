#pragma once
// Passes over a row of logits, by an instruction set's own vectors.
#include <cstdint>

namespace statespace {

struct LogitLoops {
  // The largest that is no NaN; -inf where there is none.
  float (*highest)(const float* x, int64_t count);
  // weights[i] = e^-keys[i] with keys[i] = (top - x[i]) · factor, where that is `least` or more, else 0; returns their
  // sum. What is no number is farthest: its key is +inf. keys may be nullptr, top is finite.
  double (*weigh)(const float* x, int64_t count, float top, float factor, float least, float* weights, float* keys);
  // Σ weights[i] · keys[i] over weights above 0.
  double (*weighted)(const float* weights, const float* keys, int64_t count);
  // to[i] = |keys[i] - middle|, +inf where the weight is 0.
  void (*distances)(const float* weights, const float* keys, int64_t count, float middle, float* to);
};

// This machine's, in native/backend.
const LogitLoops& logit_loops();

}  // namespace statespace
