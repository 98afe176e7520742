#pragma once
// Passes over a row of logits, by an instruction set's own vectors.
#include <cstdint>

namespace statespace {

constexpr int64_t kLogitBuckets = 1024;

struct LogitLoops {
  // The largest that is no NaN; -inf where there is none.
  float (*highest)(const float* x, int64_t count);
  // to[b]: the same of x[b · block, (b + 1) · block) and what there is of the last one.
  void (*maxima)(const float* x, int64_t count, int64_t block, float* to);
  // weights[i] = e^-keys[i] with keys[i] = (top - x[i]) · factor, where that is `least` or more, else 0; returns their
  // sum. What is no number is farthest: its key is +inf. keys may be nullptr, top is finite.
  double (*weigh)(const float* x, int64_t count, float top, float factor, float least, float* weights, float* keys);
  // Σ weights[i] · keys[i] over weights above 0.
  double (*weighted)(const float* weights, const float* keys, int64_t count);
  // to[i] = |keys[i] - middle|, +inf where the weight is 0.
  void (*distances)(const float* weights, const float* keys, int64_t count, float middle, float* to);
  // The largest key below `limit`; 0 where there is none.
  float (*farthest)(const float* keys, int64_t count, float limit);
  // to[i] = keys[i] · scale without its fraction, kLogitBuckets - 1 at most and from `limit` on.
  void (*buckets)(const float* keys, int64_t count, float scale, float limit, int16_t* to);
};

// This machine's, in native/backend.
const LogitLoops& logit_loops();

}  // namespace statespace
