#pragma once
// longConv over whole sequences, which begin with their first token and are not continued: fftConv with taps as
// longConv has them, a row for each lag.
#include "core/demands.h"
#include "core/fields.h"
#include "ops/long_conv.h"

namespace statespace {

struct WholeConv {
  static constexpr const char* kName = "wholeConv";
  using WholeOf = LongConv;
  Tensor x, kernel, D, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("kernel", kernel, "kernel_len channels");
    v.optional("D", D, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "tokens channels");
  }

  Demands demands() const { return {.whole_sequences = true, .longest = kernel[0]}; }
};

// As of fftConv.
struct WholeConvBackward {
  static constexpr const char* kName = "wholeConvBackward";
  using GradientOf = WholeConv;
  Tensor x, kernel, D, cu_seqlens, dy, dx, dkernel, dD;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("kernel", kernel, "kernel_len channels");
    v.optional("D", D, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dkernel", dkernel, "kernel_len channels");
    v.wanted("dD", dD, "channels");
  }
};

}  // namespace statespace
