#pragma once
// Discretises a dense SSM: zoh by the exponential of [[A, B], [0, 0]]·delta (A may be singular), zoh-euler
// (Bbar = delta·B), bilinear (Tustin). In f64 inside.
#include "core/fields.h"

namespace statespace {

struct DiscretizeDense {
  static constexpr const char* kName = "discretizeDense";
  Tensor A, B, Abar, Bbar;
  float delta = 1;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("A", A, "d_state d_state");
    v.in("B", B, "d_state inputs");
    v.out("Abar", Abar, "d_state d_state");
    v.out("Bbar", Bbar, "d_state inputs");
    v.attr("delta", delta);
    v.choice("method", method, "zoh|zoh-euler|bilinear");
  }
};

// With X = delta·A and L(X, E) the derivative of e^X along E, the upper right block of exp([[X, E], [0, X]]):
//   zoh-euler  dA = delta·L(Xᵀ, dAbar),   dB = delta·dBbar
//   zoh        Bbar = F·delta·B with [[Abar, F], [0, 1]] = exp([[X, 1], [0, 0]]): dF = dBbar·(delta·B)ᵀ, and so on
//   bilinear   Abar = 2 S - 1, Bbar = S·delta·B, S = (1 - X/2)⁻¹: dA = delta/2·Sᵀ (2 dAbar + dBbar·(delta·B)ᵀ) Sᵀ
struct DiscretizeDenseBackward {
  static constexpr const char* kName = "discretizeDenseBackward";
  using GradientOf = DiscretizeDense;
  Tensor A, B, dAbar, dBbar, dA, dB;
  float delta = 1;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("A", A, "d_state d_state");
    v.in("B", B, "d_state inputs");
    v.optional("dAbar", dAbar, "d_state d_state");
    v.optional("dBbar", dBbar, "d_state inputs");
    v.wanted("dA", dA, "d_state d_state");
    v.wanted("dB", dB, "d_state inputs");
    v.attr("delta", delta);
    v.choice("method", method, "zoh|zoh-euler|bilinear");
  }
};

// e^m ≈ (V - m U)⁻¹ (V + m U), V of the even and U of the odd coefficients in m², up to degree 13 (Higham, "The
// scaling and squaring method for the matrix exponential revisited", 2005), for matrices of at most this 1-norm.
struct Pade13 {
  static constexpr double kLargestNorm = 5.371920351148152;
  double b[14] = {64764752532480000,
                  32382376266240000,
                  7771770303897600,
                  1187353796428800,
                  129060195264000,
                  10559470521600,
                  670442572800,
                  33522128640,
                  1323241920,
                  40840800,
                  960960,
                  16380,
                  182,
                  1};
};

}  // namespace statespace
