#pragma once
// The gradient of a long convolution as a part of others.
#include "core/context.h"
#include "ops/fft_conv.h"

namespace statespace::STATESPACE_ISA {

// Floats that it needs: none but for sequences whose transforms the threads share.
int64_t fft_conv_gradient_floats(const Tensor& x, const Tensor& cu_seqlens);

void fft_conv_gradient(const FftConvBackward& op, float* memory, Context& cx);

}  // namespace statespace::STATESPACE_ISA
