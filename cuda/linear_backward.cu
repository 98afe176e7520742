#include "gradients.h"
#include "ops/linear.h"
#include "pointwise.h"
#include "runtime.h"
#include "weights.h"

namespace statespace::cuda {
namespace {

struct DyRows {
  Rows<const float> dy;
  __device__ float operator()(int64_t row, int64_t out) const { return dy[row][out]; }
};
struct DyColumns {
  Rows<const float> dy;
  __device__ float operator()(int64_t out, int64_t row) const { return dy[row][out]; }
};
template <class W>
struct WeightRows {
  Product weight;
  __device__ float operator()(int64_t out, int64_t in) const {
    return weight_value<W>(weight, out * weight.row_stride + in);
  }
};

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

void products(const LinearBackward& op, const Rows<const float>& dy) {
  const int64_t rows = op.x[0], out = op.weight[0], in = op.weight[1];
  const Product weight(op.weight, Sequences(Tensor{}, Tensor{}, rows));
  if (op.dbias) sum_columns(DyRows{dy}, rows, op.dbias, op.accumulate);
  if (op.dx)
    with_weight(weight.dtype, [&]<class W>() {
      multiply_rows(DyRows{dy}, WeightRows<W>{weight}, Rows<float>(op.dx), rows, in, out, false);
    });
  if (op.dweight)
    multiply_rows(DyColumns{dy}, FloatRows(op.x), Rows<float>(op.dweight), out, in, rows, op.accumulate);
}

}  // namespace

template <>
void run(const LinearBackward& op) {
  if (!op.activation) return products(op, Rows<const float>(op.dy));
  const int64_t rows = op.x[0], out = op.weight[0];
  const Scratch<float> scratch(larger<int64_t>(rows * out, 1));
  Rows<float> p;
  p.data = scratch.data(), p.stride = out;
  Product forward(op.weight, Sequences(Tensor{}, Tensor{}, rows));
  forward.x = op.x, forward.epilogue.bias = global_data<const float>(op.bias), forward.epilogue.y = p;
  product(forward);
  launch_pointwise(ThroughActivation{op.dy, p, Activation(op.activation)}, rows, out, false);
  Rows<const float> dp;
  dp.data = p.data, dp.stride = out;
  products(op, dp);
}

}  // namespace statespace::cuda
