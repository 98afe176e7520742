#pragma once
// y = act(x). y may be x.
#include "core/fields.h"
#include "ops/activations.h"

namespace statespace {

struct Activate {
  static constexpr const char* kName = "activate";
  Tensor x, y;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.out("y", y, "tokens channels");
    v.choice("activation", activation, kActivations);
  }
};

// dx = dy · act'(x)
struct ActivateBackward {
  static constexpr const char* kName = "activateBackward";
  using GradientOf = Activate;
  Tensor x, dy, dx;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.choice("activation", activation, kActivations);
  }
};

}  // namespace statespace
