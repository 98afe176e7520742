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

// With p = k∘kk, n = max(|p|, 1e-12), dy = [ d1 | d2 | d3 ]:   dκ = a d3 - d2,   dp = (dκ - κ (κ·dκ)) / n
//   dk = d1 (1 + (a - 1) ka) + dp kk,   da = d1 k ka + d3 κ,   dkk = Σ_t dp k,   dka = Σ_t d1 (a - 1) k
struct Wkv7KeysBackward {
  static constexpr const char* kName = "wkv7KeysBackward";
  using GradientOf = Wkv7Keys;
  Tensor k, a, kk, ka, dy, dk, da, dkk, dka;

  template <class V>
  void fields(V& visitor) {
    visitor.in("k", k, "tokens nheads key");
    visitor.in("a", a, "tokens nheads key");
    visitor.in("kk", kk, "nheads key");
    visitor.in("ka", ka, "nheads key");
    visitor.in("dy", dy, "tokens 3 nheads key");
    visitor.wanted("dk", dk, "tokens nheads key");
    visitor.wanted("da", da, "tokens nheads key");
    visitor.wanted("dkk", dkk, "nheads key");
    visitor.wanted("dka", dka, "nheads key");
  }
};

}  // namespace statespace
