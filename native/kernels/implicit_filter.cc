#include "ops/implicit_filter.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// to (columns, rows) with rows padded to whole vectors: a product with it reads neighbours.
void transpose(const float* from, int64_t rows, int64_t columns, float* to, int64_t stride) {
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < stride; ++r) to[c * stride + r] = r < rows ? from[r * columns + c] : 0;
}

// y = W h + b over whole vectors; W is transposed, (inputs, stride).
void product(const float* weight, int64_t stride, const float* h, int64_t inputs, const float* bias, int64_t outputs,
             float* y) {
  for (int64_t j = 0; j < stride; j += kLanes) {
    F sum = bias ? load(bias + j, lanes_of(outputs - j)) : zero();
    for (int64_t i = 0; i < inputs; ++i) sum = fma(set(h[i]), load(weight + i * stride + j), sum);
    store(y + j, sum);
  }
}

// The network's matrices, transposed once for all positions.
struct Network {
  explicit Network(const ImplicitFilter& op)
      : op(op),
        width(op.freq[0]),
        inner(op.hidden_weight ? op.hidden_weight[0] : 0),
        stride(ceil_div(width, kLanes) * kLanes),
        out_stride(ceil_div(op.out_weight[0], kLanes) * kLanes) {}
  int64_t floats() const { return (op.z[1] + inner * width) * stride + width * out_stride; }
  void fill(float* memory) {
    in = memory, hidden = in + op.z[1] * stride, out = hidden + inner * width * stride;
    transpose(op.in_weight.f32(), width, op.z[1], in, stride);
    for (int64_t i = 0; i < inner; ++i)
      transpose(op.hidden_weight.row(i), width, width, hidden + i * width * stride, stride);
    transpose(op.out_weight.f32(), op.out_weight[0], width, out, out_stride);
  }
  // Taps of one position. scratch: 2 · stride + out_stride.
  void taps(int64_t l, float* scratch) const {
    float *h = scratch, *next = h + stride, *y = next + stride;
    product(in, stride, op.z.row(l), op.z[1], op.in_bias.f32(), width, h);
    wave(h);
    for (int64_t i = 0; i < inner; ++i) {
      const float* bias = op.hidden_bias ? op.hidden_bias.row(i) : nullptr;
      product(hidden + i * width * stride, stride, h, width, bias, width, next);
      wave(next);
      float* last = h;
      h = next, next = last;
    }
    product(out, out_stride, h, width, nullptr, op.out_weight[0], y);
    const F t = set(op.t.f32()[l]), shift = set(op.shift);
    for (int64_t c = 0; c < op.kernel[1]; c += kLanes) {
      const int m = lanes_of(op.kernel[1] - c);
      F window = set(1.f);
      if (op.deltas) window = exp(zero() - t * abs(load(op.deltas.f32() + c, m))) + shift;
      store(op.kernel.row(l) + c, load(y + c) * window, m);
    }
  }
  void wave(float* h) const {
    for (int64_t j = 0; j < width; ++j) h[j] = float(std::sin(double(op.freq.f32()[j] * h[j])));
  }

  const ImplicitFilter& op;
  const int64_t width, inner, stride, out_stride;
  float *in, *hidden, *out;
};

}  // namespace

template <>
void run(const ImplicitFilter& op, Context& cx) {
  Network network(op);
  network.fill(cx.shared<float>(network.floats()));
  constexpr int64_t kPositions = 16;  // of a task
  cx.parallel_for(ceil_div(op.kernel[0], kPositions), [&](int64_t i, int worker) {
    float* scratch = cx.local<float>(worker, 2 * network.stride + network.out_stride);
    const int64_t end = (i + 1) * kPositions < op.kernel[0] ? (i + 1) * kPositions : op.kernel[0];
    for (int64_t l = i * kPositions; l < end; ++l) network.taps(l, scratch);
  });
}

}  // namespace statespace::STATESPACE_ISA
