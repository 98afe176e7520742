// S4 over whole sequences: its kernel, as long as all tokens together (the longest sequence is known to the device
// only), then the convolution.
#include "device.h"
#include "ops/fft_conv.h"
#include "ops/s4_conv.h"
#include "ops/s4_kernel.h"
#include "runtime.h"

namespace statespace::cuda {

template <>
void run(const S4Conv& op) {
  const int64_t tokens = op.x[0], channels = op.x[1];
  if (tokens == 0 || channels == 0) return;
  const Scratch<float> memory(channels * tokens);
  Tensor K;
  K.data = &*memory.data(), K.rank = 2;
  K.shape[0] = channels, K.shape[1] = K.row_stride = tokens;
  S4Kernel kernel;
  kernel.A = op.A, kernel.B = op.B, kernel.C = op.C, kernel.P = op.P, kernel.log_dt = op.log_dt, kernel.K = K;
  kernel.method = op.method;
  run(kernel);
  FftConv conv;
  conv.x = op.x, conv.kernel = K, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.y = op.y;
  run(conv);
}

}  // namespace statespace::cuda
