#include "linear_gradient.h"
#include "ops/linear.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// dp = dy · act'(p), in the place of p.
struct ThroughActivation {
  Rows<const float> dy;
  Rows<float> p;
  Activation which;
  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
#pragma unroll
    for (int i = 0; i < W; ++i) p[t][c + i] = dy[t][c + i] * activation_gradient(which, p[t][c + i]);
  }
};

}  // namespace

template <>
void run(const LinearBackward& op) {
  const int64_t rows = op.x[0], out = op.weight[0];
  if (!op.activation)
    return linear_gradients(op.x, op.weight, op.dy, 0, rows, op.dx, op.dweight, op.dbias, op.accumulate);
  const Scratch<float> scratch(larger<int64_t>(rows * out, 1));
  Rows<float> p;
  p.data = scratch.data(), p.stride = out;
  Product forward(op.weight, Sequences(Tensor{}, Tensor{}, rows));
  forward.x = op.x, forward.epilogue.bias = global_data<const float>(op.bias), forward.epilogue.y = p;
  product(forward);
  launch_pointwise(ThroughActivation{op.dy, p, Activation(op.activation)}, rows, out);
  Rows<const float> dp;
  dp.data = p.data, dp.stride = out;
  linear_gradients(op.x, op.weight, dp, 0, rows, op.dx, op.dweight, op.dbias, op.accumulate);
}

}  // namespace statespace::cuda
