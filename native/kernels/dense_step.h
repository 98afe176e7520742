#pragma once
// One step of a recurrence with a dense matrix.
#include "isa/simd.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

// next = v + Σ_k h_k · row k of `rows` (d_state, stride), over `count` vectors from `n` on.
template <int count>
void dense_vectors(const float* rows, int64_t stride, const float* h, int64_t d_state, const float* v, int64_t n,
                   float* next) {
  F sums[count];
  for (int i = 0; i < count; ++i) sums[i] = load(v + n + i * kLanes, lanes_of(d_state - n - i * kLanes));
  for (int64_t k = 0; k < d_state; ++k) {
    const F x = set(h[k]);
    for (int i = 0; i < count; ++i) sums[i] = fma(x, load(rows + k * stride + n + i * kLanes), sums[i]);
  }
  for (int i = 0; i < count; ++i) store(next + n + i * kLanes, sums[i]);
}

// The same over all of them; `stride` is d_state in whole vectors, which h and next have room for.
inline void dense_step(const float* rows, int64_t stride, const float* h, int64_t d_state, const float* v,
                       float* next) {
  constexpr int kVectors = 4;  // of outputs at once: as many sums in flight hide the latency of the next
  int64_t n = 0;
  for (; n + kVectors * kLanes <= stride; n += kVectors * kLanes)
    dense_vectors<kVectors>(rows, stride, h, d_state, v, n, next);
  for (; n < stride; n += kLanes) dense_vectors<1>(rows, stride, h, d_state, v, n, next);
}

}  // namespace statespace::STATESPACE_ISA
