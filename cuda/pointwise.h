#pragma once
// Kernels that treat every value by itself: fn.at<W>(row, channel) makes W neighbours of it.
#include "views.h"

namespace statespace::cuda {

template <class Fn>
struct PointwiseArgs {
  Fn fn;
  int64_t rows, groups;  // of W channels
};

constexpr int kPointwiseThreads = 256;

template <int W, class Fn>
__global__ void __launch_bounds__(kPointwiseThreads) pointwise(PointwiseArgs<Fn> a) {
  const int64_t i = int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x;
  if (i >= a.rows * a.groups) return;
  const bool narrow = a.rows * a.groups <= 0xffffffff;  // 64-bit division costs more than the rest
  const int64_t row = narrow ? uint32_t(i) / uint32_t(a.groups) : i / a.groups;
  a.fn.template at<W>(row, (i - row * a.groups) * W);
}

// One value a thread.
template <class Fn>
void launch_pointwise(const Fn& fn, int64_t rows, int64_t channels) {
  launch(pointwise<1, Fn>, {ceil_div(rows * channels, kPointwiseThreads)}, kPointwiseThreads, {fn, rows, channels});
}
// Four where the caller's tensors allow it: by_fours().
template <class Fn>
void launch_pointwise(const Fn& fn, int64_t rows, int64_t channels, bool fours) {
  if (!fours) return launch_pointwise(fn, rows, channels);
  launch(pointwise<4, Fn>, {ceil_div(rows * channels / 4, kPointwiseThreads)}, kPointwiseThreads,
         {fn, rows, channels / 4});
}

}  // namespace statespace::cuda
