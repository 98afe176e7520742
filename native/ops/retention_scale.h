#pragma once
// RetNet's scaling of retention by its sum of decays (Sun et al. 2023, section 2.2: D divided by the root of its row
// sums), per head, γ = e^{logDecay}, p_t the token's place in its sequence:
//   y_t = x_t / sqrt(γ^0 + γ^1 + … + γ^{p_t})
// Without positions token t stands at t.
#include "core/fields.h"

namespace statespace {

struct RetentionScale {
  static constexpr const char* kName = "retentionScale";
  Tensor x, log_decay, positions, y;

  template <class V>
  void fields(V& visitor) {
    visitor.in("x", x, "tokens nheads value");
    visitor.in("logDecay", log_decay, "nheads");
    visitor.runtime("positions", positions, "tokens");
    visitor.out("y", y, "tokens nheads value");
  }
};

// dx_t = dy_t / sqrt(γ^0 + … + γ^{p_t}); the decay is a constant.
struct RetentionScaleBackward {
  static constexpr const char* kName = "retentionScaleBackward";
  using GradientOf = RetentionScale;
  Tensor dy, log_decay, positions, dx;

  template <class V>
  void fields(V& visitor) {
    visitor.in("dy", dy, "tokens nheads value");
    visitor.in("logDecay", log_decay, "nheads");
    visitor.runtime("positions", positions, "tokens");
    visitor.wanted("dx", dx, "tokens nheads value");
  }
};

}  // namespace statespace
