// h_t = A h_{t-1} + v_t, a block a sequence: a warp sums one state at a time, over the states before it. Steps follow
// one another, so that A, read again by each of them, comes from the caches.
#include "dense.h"
#include "ops/dense_scan.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct ScanArgs {
  Rows<const float> v, A;
  Rows<float> state, h;
  Sequences sequences;
  int d_state;
};

__global__ void __launch_bounds__(kDenseThreads) dense_scan(ScanArgs a) {
  const int s = int(blockIdx.x), begin = a.sequences.begin(s), end = a.sequences.end(s);
  if (begin == end) return;  // the whole block
  const global<float> state = a.state[a.sequences.slot(s)];
  for (int t = begin; t < end; ++t) {
    const global<const float> before = t > begin ? a.h[t - 1] : state;
    for (int n = warp(); n < a.d_state; n += kDenseThreads / 32) {
      const float sum = warp_dot<float>(a.A[n], before, a.d_state);
      if (lane() == 0) a.h[t][n] = sum + a.v[t][n];
    }
    barrier();
  }
  for (int n = int(threadIdx.x); n < a.d_state; n += kDenseThreads) state[n] = a.h[end - 1][n];
}

}  // namespace

template <>
void run(const DenseScan& op) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.v[0]);
  const ScanArgs args{op.v, op.A, op.state, op.h, sequences, int(op.A[0])};
  if (sequences.tokens > 0 && args.d_state > 0) launch(dense_scan, {sequences.count}, kDenseThreads, args);
}

}  // namespace statespace::cuda
