#pragma once
// The system of s4Kernel step by step, per channel: h = Ā h + B̄ x_t, y_t = 2 Re(C·h) + D x_t. Equal to fftConv with
// s4Kernel, and continued by its state; A, B, C, P, logDt and method as there.
#include "ops/s4_kernel.h"

namespace statespace {

struct S4Recurrent {
  static constexpr const char* kName = "s4Recurrent";
  Tensor x, A, B, C, P, D, log_dt, cu_seqlens, slots, state, y;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("A", A, "channels d_state | channels d_state 2");
    v.in("B", B, "channels d_state | channels d_state 2");
    v.in("C", C, "channels d_state | channels d_state 2");
    v.optional("P", P, "channels d_state 2");
    v.optional("D", D, "channels");
    v.in("logDt", log_dt, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels d_state | pool channels d_state 2");
    v.out("y", y, "tokens channels");
    v.choice("method", method, "zoh|bilinear");
  }

  void check() const {
    S4Kernel::check_s4(kName, A, B, C, P, method);
    if (state.rank != A.rank + 1) throw Error(Code::kShape, "s4Recurrent: state must be real or complex as A is");
  }
};

}  // namespace statespace
