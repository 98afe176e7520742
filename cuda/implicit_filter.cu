// Hyena's filter: the network's products as linear has them, a sine between them and the window behind them.
#include "ops/implicit_filter.h"
#include "ops/linear.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Wave {
  Rows<float> h;
  global<const float> freq;

  template <int W>
  __device__ void at(int64_t l, int64_t c) const {
    h[l][c] = sinf(freq[c] * h[l][c]);
  }
};

struct Window {
  Rows<float> kernel;
  global<const float> t, deltas;
  float shift;

  template <int W>
  __device__ void at(int64_t l, int64_t c) const {
    kernel[l][c] *= expf(-t[l] * fabsf(deltas[c])) + shift;
  }
};

Tensor matrix(const global<float>& data, int64_t rows, int64_t columns) {
  Tensor t;
  t.data = &*data, t.rank = 2;
  t.shape[0] = rows, t.shape[1] = t.row_stride = columns;
  return t;
}

// Matrix i of a stack of them.
Tensor matrix_of(const Tensor& stack, int64_t i) {
  Tensor t = stack;
  t.data = static_cast<float*>(stack.data) + i * stack.row_stride;
  t.rank = 2;
  t.shape[0] = stack[1], t.shape[1] = t.row_stride = stack[2];
  return t;
}
Tensor vector_of(const Tensor& stack, int64_t i) {
  Tensor t = stack;
  t.data = static_cast<float*>(stack.data) + i * stack.row_stride;
  t.rank = 1;
  t.shape[0] = stack[1], t.row_stride = 1;
  return t;
}

void product(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  Linear linear;
  linear.x = x, linear.weight = weight, linear.bias = bias, linear.y = y;
  run(linear);
}

}  // namespace

template <>
void run(const ImplicitFilter& op) {
  const int64_t positions = op.kernel[0], channels = op.kernel[1], width = op.freq[0];
  if (positions == 0 || channels == 0) return;
  const Scratch<float> memory(larger<int64_t>(1, 2 * positions * width));
  Tensor h = matrix(memory.data(), positions, width);
  Tensor next = matrix(memory.data() + positions * width, positions, width);
  const auto wave = [&](const Tensor& v) {
    launch_pointwise(Wave{v, global_data<const float>(op.freq)}, positions, width);
  };
  product(op.z, op.in_weight, op.in_bias, h);
  wave(h);
  for (int64_t i = 0; i < (op.hidden_weight ? op.hidden_weight[0] : 0); ++i) {
    product(h, matrix_of(op.hidden_weight, i), op.hidden_bias ? vector_of(op.hidden_bias, i) : Tensor{}, next);
    wave(next);
    std::swap(h, next);
  }
  product(h, op.out_weight, Tensor{}, op.kernel);
  if (op.deltas)
    launch_pointwise(Window{op.kernel, global_data<const float>(op.t), global_data<const float>(op.deltas), op.shift},
                     positions, channels);
}

}  // namespace statespace::cuda
