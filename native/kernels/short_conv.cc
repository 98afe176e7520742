#include "ops/short_conv.h"

#include "backend/kernels.h"
#include "kernels/rows.h"
#include "ops/causal_conv1d.h"

namespace statespace::STATESPACE_ISA {
namespace {

// out = a ∘ b, row by row; out may be either.
void multiply(const Tensor& a, const Tensor& b, const Tensor& out, Context& cx) {
  const int64_t width = a[1];
  for_row_blocks(cx, a[0], width, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *x = a.row(t), *y = b.row(t);
      float* to = out.row(t);
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) store(to + i, load(x + i) * load(y + i));
      if (i < width) store(to + i, load(x + i, int(width - i)) * load(y + i, int(width - i)), int(width - i));
    }
  });
}

}  // namespace

template <>
void run(const ShortConv& op, Context& cx) {
  Tensor input = op.x;
  input.row_stride = input[1];
  input.data = cx.kept<float>(input.size());
  multiply(op.b, op.x, input, cx);
  CausalConv1d conv;
  conv.x = input, conv.weight = op.weight, conv.bias = op.bias;
  conv.cu_seqlens = op.cu_seqlens, conv.slots = op.slots, conv.state = op.state, conv.y = op.y;
  run(conv, cx);
  multiply(op.y, op.c, op.y, cx);
}

}  // namespace statespace::STATESPACE_ISA
