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

// With p = r · (u ∘ k) and e = v · dy:   dv = p dy,   dr = e u∘k,   dk = e r∘u,   du = Σ_t e r∘k.   dy is x's as it
// stands.
struct Wkv7BonusBackward {
  static constexpr const char* kName = "wkv7BonusBackward";
  static constexpr const char* kPassesOn = "x";
  using GradientOf = Wkv7Bonus;
  Tensor r, k, v, u, dy, dr, dk, dv, du;

  template <class V>
  void fields(V& visitor) {
    visitor.in("r", r, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("u", u, "nheads key");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.wanted("dr", dr, "tokens nheads key");
    visitor.wanted("dk", dk, "tokens nheads key");
    visitor.wanted("dv", dv, "tokens nheads value");
    visitor.wanted("du", du, "nheads key");
  }
};

}  // namespace statespace
