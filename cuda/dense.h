#pragma once
// What the kernels of dense systems share.
#include "views.h"

namespace statespace::cuda {

constexpr int kDenseThreads = 512;

// Σ a[i] b[i] in T over a warp, in all its lanes.
template <class T, class B>
__device__ T warp_dot(const global<const float>& a, const B& b, int count) {
  T sum = 0;
  for (int i = lane(); i < count; i += 32) sum += T(a[i]) * T(b[i]);
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  return sum;
}

}  // namespace statespace::cuda
