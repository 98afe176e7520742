#pragma once
// A dense state space over whole sequences as a convolution: y_t = Σ_j K_j x_{t-j} with K_j = C A^j B, from a zero
// state. It equals denseScan between the products with B and C, at `outputs` times its cost: every pair of an input and
// an output is a convolution of its own, by FFT.
#include "core/demands.h"
#include "core/fields.h"

namespace statespace {

struct DenseConv {
  static constexpr const char* kName = "denseConv";
  Tensor x, A, B, C, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens inputs");
    v.in("A", A, "d_state d_state");
    v.in("B", B, "d_state inputs");
    v.in("C", C, "outputs d_state");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "tokens outputs");
  }

  Demands demands() const { return {.whole_sequences = true}; }
};

// As of C h, h = denseScan(B x).
struct DenseConvBackward {
  static constexpr const char* kName = "denseConvBackward";
  using GradientOf = DenseConv;
  Tensor x, A, B, C, cu_seqlens, dy, dx, dA, dB, dC;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens inputs");
    v.in("A", A, "d_state d_state");
    v.in("B", B, "d_state inputs");
    v.in("C", C, "outputs d_state");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens outputs");
    v.wanted("dx", dx, "tokens inputs");
    v.wanted("dA", dA, "d_state d_state");
    v.wanted("dB", dB, "d_state inputs");
    v.wanted("dC", dC, "outputs d_state");
  }
};

}  // namespace statespace
