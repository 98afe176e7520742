#pragma once
// The convolution kernel of an S4 layer (Gu et al. 2022), per channel, dt = e^{logDt}:
//   K[l] = 2 Re Σ_n C_n (Ā^l B̄)_n,   over the kept half of conjugate pairs
// Diagonal (S4D): Ā = e^{dt A}, B̄ = (Ā - 1)/A · B (zoh), or Tustin's (bilinear), a Vandermonde product. With P the
// system is A = diag(A) - P P* over all pairs, bilinear only: the Cauchy kernel and Woodbury's identity give its
// generating function at scaled roots of unity, in f64, and an FFT the kernel.
// Values are [re, im] on a last axis; without it (real, diagonal only) the factor 2 stays. C is the C of the state
// space, not the C·(I - Ā^L) of checkpoints with a fixed kernel length.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct S4Kernel {
  static constexpr const char* kName = "s4Kernel";
  Tensor A, B, C, P, log_dt, K;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("A", A, "channels d_state | channels d_state 2");
    v.in("B", B, "channels d_state | channels d_state 2");
    v.in("C", C, "channels d_state | channels d_state 2");
    v.optional("P", P, "channels d_state 2");
    v.in("logDt", log_dt, "channels");
    v.out("K", K, "channels length");
    v.choice("method", method, "zoh|bilinear");
  }

  void check() const { check_s4(kName, A, B, C, P, method); }

  // Shared with s4Recurrent.
  static void check_s4(const std::string& op, const Tensor& A, const Tensor& B, const Tensor& C, const Tensor& P,
                       int32_t method) {
    if (B.rank != A.rank || C.rank != A.rank || (P && A.rank == 2))
      throw Error(Code::kShape, op + ": A, B, C (and P) must be all real or all with a last axis [re, im]; P needs it");
    if (P && method == 0)
      throw Error(Code::kArgument, op + ": method: expected bilinear, the only one with P, received zoh");
  }
};

// With W = C B̄, as complex numbers whose conjugates are the gradients of re and im:
//   dW = 2 Σ_l dK_l Ā^l,   dĀ = 2 W Σ_l l dK_l Ā^{l-1}
// and through Ā(A, dt) and B̄(A, B, dt). With P through the generating function at the nodes of the forward, the
// transform of dK from above.
struct S4KernelBackward {
  static constexpr const char* kName = "s4KernelBackward";
  using GradientOf = S4Kernel;
  Tensor A, B, C, P, log_dt, dK, dA, dB, dC, dP, dlog_dt;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("A", A, "channels d_state | channels d_state 2");
    v.in("B", B, "channels d_state | channels d_state 2");
    v.in("C", C, "channels d_state | channels d_state 2");
    v.optional("P", P, "channels d_state 2");
    v.in("logDt", log_dt, "channels");
    v.in("dK", dK, "channels length");
    v.wanted("dA", dA, "channels d_state | channels d_state 2");
    v.wanted("dB", dB, "channels d_state | channels d_state 2");
    v.wanted("dC", dC, "channels d_state | channels d_state 2");
    v.wanted("dP", dP, "channels d_state 2");
    v.wanted("dlogDt", dlog_dt, "channels");
    v.choice("method", method, "zoh|bilinear");
  }

  void check() const {
    S4Kernel::check_s4(kName, A, B, C, P, method);
    for (const Tensor* d : {&dA, &dB, &dC})
      if (*d && d->rank != A.rank)
        throw Error(Code::kShape, "s4KernelBackward: gradients must be real or complex as A is");
  }
};

}  // namespace statespace
