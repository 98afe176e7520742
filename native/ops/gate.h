#pragma once
// y = act(gate) · x: the gated linear unit's product (Shazeer 2020). A limit > 0 clamps the gate from above and x from
// both sides first (GLM-5). y may be x or gate.
#include "core/fields.h"
#include "ops/activations.h"

namespace statespace {

struct Gate {
  static constexpr const char* kName = "gate";
  Tensor x, gate, y;
  int32_t activation = 0;
  float limit = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("gate", gate, "tokens channels");
    v.out("y", y, "tokens channels");
    v.choice("activation", activation, kActivations);
    v.attr("limit", limit);
  }
};

// dx = dy · act(gate), dgate = dy · x · act'(gate), of the clamped values; 0 for what the limit cut.
struct GateBackward {
  static constexpr const char* kName = "gateBackward";
  using GradientOf = Gate;
  Tensor x, gate, dy, dx, dgate;
  int32_t activation = 0;
  float limit = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("gate", gate, "tokens channels");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dgate", dgate, "tokens channels");
    v.choice("activation", activation, kActivations);
    v.attr("limit", limit);
  }
};

}  // namespace statespace
