#pragma once
// A causal convolution as long as the sequence (S4, Hyena), per channel and sequence, by FFT:
//   y_t = Σ_{s=0..t} kernel[:, s] x_{t-s} + D x_t
// Each sequence of cuSeqlens starts anew; kernel values past its length are not read. There is no state: continuing a
// sequence needs all of its inputs again.
#include "core/demands.h"
#include "core/fields.h"

namespace statespace {

struct FftConv {
  static constexpr const char* kName = "fftConv";
  Tensor x, kernel, D, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("kernel", kernel, "channels kernel_len");
    v.optional("D", D, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "tokens channels");
  }

  Demands demands() const { return {.whole_sequences = true}; }
};

// dx = the correlation of dy with the kernel, + D dy;   dkernel_j = Σ_t dy_t x_{t-j}, 0 past the sequence;   dD = Σ dy
// x
struct FftConvBackward {
  static constexpr const char* kName = "fftConvBackward";
  using GradientOf = FftConv;
  Tensor x, kernel, D, cu_seqlens, dy, dx, dkernel, dD;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("kernel", kernel, "channels kernel_len");
    v.optional("D", D, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dkernel", dkernel, "channels kernel_len");
    v.wanted("dD", dD, "channels");
  }
};

}  // namespace statespace
