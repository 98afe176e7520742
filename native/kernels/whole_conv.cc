#include "ops/whole_conv.h"

#include <cstring>

#include "backend/kernels.h"
#include "kernels/fft_conv_gradient.h"
#include "kernels/matrix.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Taps that some sequence reads.
int64_t taps_of(const Tensor& x, const Tensor& kernel, const Tensor& cu_seqlens) {
  return std::min(kernel[0], longest_of(Sequences(cu_seqlens, Tensor{}, x[0])));
}

}  // namespace

template <>
void run(const WholeConv& op, Context& cx) {
  const int64_t channels = op.x[1], taps = taps_of(op.x, op.kernel, op.cu_seqlens);
  FftConv conv;
  conv.kernel = matrix(cx.kept<float>(channels * taps + 1), channels, taps);
  turn(cx, op.kernel, conv.kernel);
  conv.x = op.x, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.y = op.y;
  run(conv, cx);
}

template <>
void run(const WholeConvBackward& op, Context& cx) {
  const int64_t channels = op.x[1], taps = taps_of(op.x, op.kernel, op.cu_seqlens);
  float* memory = cx.kept<float>(2 * channels * taps + 1 + fft_conv_gradient_floats(op.x, op.cu_seqlens));
  FftConvBackward conv;
  conv.kernel = matrix(memory, channels, taps);
  if (op.dx) turn(cx, op.kernel, conv.kernel);
  conv.x = op.x, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.dy = op.dy;
  conv.dx = op.dx, conv.dD = op.dD;
  if (op.dkernel) conv.dkernel = matrix(memory + channels * taps, channels, taps);
  fft_conv_gradient(conv, memory + 2 * channels * taps, cx);
  if (!op.dkernel) return;
  Tensor read = op.dkernel;
  read.shape[0] = taps;
  turn(cx, conv.dkernel, read);
  for (int64_t l = taps; l < op.kernel[0]; ++l) std::memset(op.dkernel.row(l), 0, size_t(channels) * sizeof(float));
}

}  // namespace statespace::STATESPACE_ISA
