#include "backend/kernels.h"
#include "kernels/fft_conv_gradient.h"
#include "kernels/matrix.h"
#include "ops/s4_conv.h"

namespace statespace::STATESPACE_ISA {
template <>
void run(const S4ConvBackward& op, Context& cx) {
  const int64_t channels = op.x[1], longest = longest_of(Sequences(op.cu_seqlens, Tensor{}, op.x[0]));
  float* memory = cx.kept<float>(2 * channels * longest + 1 + fft_conv_gradient_floats(op.x, op.cu_seqlens));
  const Tensor K = matrix(memory, channels, longest), dK = matrix(memory + channels * longest, channels, longest);
  if (op.dx) {
    S4Kernel kernel;
    kernel.A = op.A, kernel.B = op.B, kernel.C = op.C, kernel.P = op.P, kernel.log_dt = op.log_dt, kernel.K = K;
    kernel.method = op.method;
    run(kernel, cx);
  }
  const bool system = op.dA || op.dB || op.dC || op.dP || op.dlog_dt;
  FftConvBackward conv;
  conv.x = op.x, conv.kernel = K, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.dy = op.dy;
  conv.dx = op.dx, conv.dD = op.dD;
  if (system) conv.dkernel = dK;
  fft_conv_gradient(conv, memory + 2 * channels * longest, cx);
  if (!system) return;
  S4KernelBackward kernel;
  kernel.A = op.A, kernel.B = op.B, kernel.C = op.C, kernel.P = op.P, kernel.log_dt = op.log_dt, kernel.dK = dK;
  kernel.dA = op.dA, kernel.dB = op.dB, kernel.dC = op.dC, kernel.dP = op.dP, kernel.dlog_dt = op.dlog_dt;
  kernel.method = op.method;
  run(kernel, cx);
}

}  // namespace statespace::STATESPACE_ISA
