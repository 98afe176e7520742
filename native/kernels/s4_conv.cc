#include "ops/s4_conv.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const S4Conv& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t length = sequences.end(s) - sequences.begin(s);
    if (length > longest) longest = length;
  }
  if (longest == 0) return;
  Tensor K;
  K.rank = 2, K.shape[0] = op.x[1], K.shape[1] = K.row_stride = longest;
  K.data = cx.kept<float>(K.size());

  S4Kernel kernel;
  kernel.A = op.A, kernel.B = op.B, kernel.C = op.C, kernel.P = op.P, kernel.log_dt = op.log_dt, kernel.K = K;
  kernel.method = op.method;
  run(kernel, cx);
  FftConv conv;
  conv.x = op.x, conv.kernel = K, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.y = op.y;
  run(conv, cx);
}

}  // namespace statespace::STATESPACE_ISA
