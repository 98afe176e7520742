#include <cstring>

#include "backend/kernels.h"
#include "kernels/dense_step.h"
#include "kernels/matrix.h"
#include "ops/dense_conv.h"
#include "ops/dense_scan.h"
#include "ops/linear.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Rows [begin, begin + count) of a matrix.
Tensor rows_of(Tensor t, int64_t begin, int64_t count) {
  t.data = t.row(begin), t.shape[0] = count;
  return t;
}

}  // namespace

template <>
void run(const DenseScanBackward& op, Context& cx) {
  if (!op.dv && !op.dA) return;
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.h[0]);
  const int64_t d_state = op.A[0], stride = ceil_div(d_state, kLanes) * kLanes;
  const Tensor g = op.dv ? op.dv : matrix(cx.kept<float>(op.h[0] * d_state + 1), op.h[0], d_state);
  float* rows = cx.shared<float>(d_state * stride);
  for (int64_t k = 0; k < d_state; ++k) {
    std::memcpy(rows + k * stride, op.A.row(k), size_t(d_state) * sizeof(float));
    std::memset(rows + k * stride + d_state, 0, size_t(stride - d_state) * sizeof(float));
  }
  cx.parallel_for(sequences.count, [&](int64_t s, int worker) {
    float *after = cx.local<float>(worker, 2 * stride), *now = after + stride;  // g of the token behind, of this one
    std::memset(after, 0, size_t(stride) * sizeof(float));
    for (int64_t t = sequences.end(s) - 1; t >= sequences.begin(s); --t) {
      cx.check_stop();
      dense_step(rows, stride, after, d_state, op.dh.row(t), now);
      std::memcpy(g.row(t), now, size_t(d_state) * sizeof(float));
      float* last = after;
      after = now, now = last;
    }
  });
  if (!op.dA) return;
  LinearBackward product;  // dA = Σ_t g_t h_{t-1}ᵀ
  product.weight = op.A, product.dweight = op.dA;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), steps = sequences.end(s) - begin - 1;
    if (steps <= 0) continue;
    product.x = rows_of(op.h, begin, steps), product.dy = rows_of(g, begin + 1, steps);
    run(product, cx);
    product.accumulate = true;
  }
  if (!product.accumulate)
    for (int64_t k = 0; k < d_state; ++k) std::memset(op.dA.row(k), 0, size_t(d_state) * sizeof(float));
}

template <>
void run(const DenseConvBackward& op, Context& cx) {
  const int64_t tokens = op.x[0], d_state = op.A[0];
  const int64_t sequences = Sequences(op.cu_seqlens, Tensor{}, tokens).count;
  float* memory = cx.kept<float>((3 * tokens + sequences) * d_state + 1);
  const Tensor v = matrix(memory, tokens, d_state), h = matrix(memory + v.size(), tokens, d_state),
               dh = matrix(memory + 2 * v.size(), tokens, d_state),
               state = matrix(memory + 3 * v.size(), sequences, d_state), dv = v;
  Linear in;
  in.x = op.x, in.weight = op.B, in.y = v;
  run(in, cx);
  DenseScan scan;
  scan.v = v, scan.A = op.A, scan.cu_seqlens = op.cu_seqlens, scan.state = state, scan.h = h;
  std::memset(state.data, 0, size_t(state.size()) * sizeof(float));
  run(scan, cx);
  LinearBackward out;  // y = C h
  out.x = h, out.weight = op.C, out.dy = op.dy, out.dx = dh, out.dweight = op.dC;
  run(out, cx);
  if (!op.dx && !op.dA && !op.dB) return;
  DenseScanBackward back;
  back.A = op.A, back.h = h, back.cu_seqlens = op.cu_seqlens, back.dh = dh, back.dv = dv, back.dA = op.dA;
  run(back, cx);
  LinearBackward first;  // v = B x
  first.x = op.x, first.weight = op.B, first.dy = dv, first.dx = op.dx, first.dweight = op.dB;
  run(first, cx);
}

}  // namespace statespace::STATESPACE_ISA
