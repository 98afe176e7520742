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

}  // namespace statespace
