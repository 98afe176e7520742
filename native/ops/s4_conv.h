#pragma once
// The system of s4Recurrent over whole sequences by convolution: s4Kernel as long as the longest of them, then fftConv.
// It starts from a zero state and leaves none behind.
#include "core/demands.h"
#include "ops/s4_recurrent.h"

namespace statespace {

struct S4Conv {
  static constexpr const char* kName = "s4Conv";
  using WholeOf = S4Recurrent;
  Tensor x, A, B, C, P, D, log_dt, cu_seqlens, y;
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
    v.out("y", y, "tokens channels");
    v.choice("method", method, "zoh|bilinear");
  }

  void check() const { S4Kernel::check_s4(kName, A, B, C, P, method); }

  Demands demands() const { return {.whole_sequences = true}; }
};

// dx, dD and the gradient of the kernel as fftConv's, the system's through s4Kernel's.
struct S4ConvBackward {
  static constexpr const char* kName = "s4ConvBackward";
  using GradientOf = S4Conv;
  Tensor x, A, B, C, P, D, log_dt, cu_seqlens, dy, dx, dA, dB, dC, dP, dD, dlog_dt;
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
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dA", dA, "channels d_state | channels d_state 2");
    v.wanted("dB", dB, "channels d_state | channels d_state 2");
    v.wanted("dC", dC, "channels d_state | channels d_state 2");
    v.wanted("dP", dP, "channels d_state 2");
    v.wanted("dD", dD, "channels");
    v.wanted("dlogDt", dlog_dt, "channels");
    v.choice("method", method, "zoh|bilinear");
  }

  void check() const { S4Kernel::check_s4(kName, A, B, C, P, method); }
};

}  // namespace statespace
