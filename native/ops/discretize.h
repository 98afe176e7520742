#pragma once
// Discretises a diagonal SSM, per token and channel, with a = dt·A:
//   zoh        Abar = exp(a),           Bbar = (exp(a) - 1)/A · B, dt·B where A = 0
//   zoh-euler  Abar = exp(a),           Bbar = dt·B   (Mamba's simplification)
//   bilinear   Abar = (1+a/2)/(1-a/2),  Bbar = dt/(1-a/2) · B
#include "core/fields.h"

namespace statespace {

struct Discretize {
  static constexpr const char* kName = "discretize";
  Tensor delta, A, B, Abar, Bbar;
  int32_t method = 0;

  template <class V>
  void fields(V& v) {
    v.in("delta", delta, "tokens d_inner");
    v.in("A", A, "d_inner d_state");
    v.in("B", B, "tokens 1 d_state | d_inner d_state");
    v.out("Abar", Abar, "tokens d_inner d_state");
    v.out("Bbar", Bbar, "tokens d_inner d_state");
    v.choice("method", method, "zoh|zoh-euler|bilinear");
  }
};

}  // namespace statespace
