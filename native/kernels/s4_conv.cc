#include "ops/s4_conv.h"

#include "backend/kernels.h"
#include "kernels/matrix.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const S4Conv& op, Context& cx) {
  const int64_t longest = longest_of(Sequences(op.cu_seqlens, Tensor{}, op.x[0]));
  if (longest == 0) return;
  const Tensor K = matrix(cx.kept<float>(op.x[1] * longest), op.x[1], longest);

  S4Kernel kernel;
  kernel.A = op.A, kernel.B = op.B, kernel.C = op.C, kernel.P = op.P, kernel.log_dt = op.log_dt, kernel.K = K;
  kernel.method = op.method;
  run(kernel, cx);
  FftConv conv;
  conv.x = op.x, conv.kernel = K, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.y = op.y;
  run(conv, cx);
}

}  // namespace statespace::STATESPACE_ISA
