#pragma once
// What RWKV-7 adds behind its group norm: a token's own value, weighed as RWKV-6 does it (Peng et al. 2025), per head:
//   y_t = x_t + (r_t · (u ∘ k_t)) v_t
#include "core/fields.h"

namespace statespace {

struct Wkv7Bonus {
  static constexpr const char* kName = "wkv7Bonus";
  Tensor x, r, k, v, u, y;

  template <class V>
  void fields(V& visitor) {
    visitor.in("x", x, "tokens nheads value");
    visitor.in("r", r, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("u", u, "nheads key");
    visitor.out("y", y, "tokens nheads value");
  }
};

}  // namespace statespace
