// A dense system over whole sequences from a zero state. Its taps C A^j B are a chain as long as the sequence, for each
// output; the recurrence is the same chain once for all of them, so that no convolution can be faster here:
//   h_t = A h_{t-1} + B x_t,   y_t = C h_t
// A block a sequence. h is f64, as powers of A run over the whole sequence.
#include "dense.h"
#include "ops/dense_conv.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct ConvArgs {
  Rows<const float> x, A, B, C;
  Rows<float> y;
  Sequences sequences;
  int d_state, inputs, outputs;
  global<double> h;  // (sequences, 2, d_state): of even and odd steps
};

__global__ void __launch_bounds__(kDenseThreads) dense_conv(ConvArgs a) {
  constexpr int kWarps = kDenseThreads / 32;
  const int s = int(blockIdx.x), begin = a.sequences.begin(s), end = a.sequences.end(s);
  const global<double> states = a.h + int64_t(s) * 2 * a.d_state;
  for (int n = int(threadIdx.x); n < a.d_state; n += kDenseThreads) states[n] = 0;
  barrier();
  for (int t = begin; t < end; ++t) {
    const int odd = (t - begin) % 2;
    const global<double> before = states + odd * a.d_state, h = states + (1 - odd) * a.d_state;
    for (int n = warp(); n < a.d_state; n += kWarps) {
      const double sum = warp_dot<double>(a.A[n], before, a.d_state) + warp_dot<double>(a.B[n], a.x[t], a.inputs);
      if (lane() == 0) h[n] = sum;
    }
    barrier();  // the next step writes `before` only
    for (int o = warp(); o < a.outputs; o += kWarps) {
      const double sum = warp_dot<double>(a.C[o], h, a.d_state);
      if (lane() == 0) a.y[t][o] = float(sum);
    }
  }
}

}  // namespace

template <>
void run(const DenseConv& op) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  if (sequences.tokens == 0 || op.y[1] == 0) return;
  const int64_t d_state = op.A[0];
  const Scratch<double> h(larger<int64_t>(1, sequences.count * 2 * d_state));
  const ConvArgs args{op.x, op.A, op.B, op.C, op.y, sequences, int(d_state), int(op.x[1]), int(op.y[1]), h.data()};
  launch(dense_conv, {sequences.count}, kDenseThreads, args);
}

}  // namespace statespace::cuda
