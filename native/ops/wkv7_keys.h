#pragma once
// RWKV-7's three keys, from the projected k and the learning rate a in [0, 1] (Peng et al. 2025, section 4), per head:
//   κ = k∘kk / max(|k∘kk|, 1e-12),   y = [ k + (a - 1)∘k∘ka | -κ | κ∘a ]
// wkv7 adds by the first, removes along the second (its a) and writes back along the third (its b). kk is made of k
// before the change by ka.
#include "core/fields.h"

namespace statespace {

struct Wkv7Keys {
  static constexpr const char* kName = "wkv7Keys";
  Tensor k, a, kk, ka, y;

  template <class V>
  void fields(V& visitor) {
    visitor.in("k", k, "tokens nheads key");
    visitor.in("a", a, "tokens nheads key");
    visitor.in("kk", kk, "nheads key");
    visitor.in("ka", ka, "nheads key");
    visitor.out("y", y, "tokens 3 nheads key");
  }
};

}  // namespace statespace
