#include "backend/kernels.h"
#include "kernels/activation_gradients.h"
#include "kernels/column_sums.h"
#include "kernels/matmul_gradient.h"
#include "ops/linear.h"

namespace statespace::STATESPACE_ISA {
namespace {

// dp = dy · act'(x·weightᵀ + bias) in scratch that the products leave alone.
Tensor before_activation(const LinearBackward& op, Context& cx) {
  Tensor p = op.dy;
  p.row_stride = p[1];
  p.data = cx.kept<float>(p.size());
  Linear forward;
  forward.x = op.x, forward.weight = op.weight, forward.bias = op.bias, forward.y = p;
  run(forward, cx);
  with_activation_gradient(op.activation, [&](auto, auto gradient) {
    for_row_blocks(cx, p[0], p[1], [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < p[1]; c += kLanes) {
          const int m = lanes_of(p[1] - c);
          store(p.row(r) + c, load(op.dy.row(r) + c, m) * gradient(load(p.row(r) + c, m)), m);
        }
    });
  });
  return p;
}

}  // namespace

template <>
void run(const LinearBackward& op, Context& cx) {
  const int64_t rows = op.x[0], out = op.weight[0], in = op.weight[1];
  const Tensor dy = op.activation ? before_activation(op, cx) : op.dy;
  if (op.dbias) sum_rows(cx, dy, op.dbias.f32(), op.accumulate);
  void* scratch = cx.shared<char>(gradient_scratch(op.weight));
  const bool pairs = rounds_gradients(cx, op.weight);
  if (op.dx) matmul_dx(cx, dy, rows, op.weight, 0, op.dx, false, pairs, scratch);
  if (op.dweight)
    matmul_dweight(cx, dy, op.x, rows, out, in, op.dweight.f32(), op.dweight.row_stride, op.accumulate, pairs, scratch);
}

}  // namespace statespace::STATESPACE_ISA
