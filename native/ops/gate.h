#pragma once
// y = act(gate) · x: the gated linear unit's product (Shazeer 2020). y may be x or gate.
#include "core/fields.h"
#include "ops/activations.h"

namespace statespace {

struct Gate {
  static constexpr const char* kName = "gate";
  Tensor x, gate, y;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("gate", gate, "tokens channels");
    v.out("y", y, "tokens channels");
    v.choice("activation", activation, kActivations);
  }
};

}  // namespace statespace
