#pragma once
// y = a + (b - a) · w; w is one row for all tokens, or varies with them (RWKV's data-dependent mixes).
#include "core/fields.h"

namespace statespace {

struct Lerp {
  static constexpr const char* kName = "lerp";
  Tensor a, b, w, y;

  template <class V>
  void fields(V& v) {
    v.in("a", a, "tokens channels");
    v.in("b", b, "tokens channels");
    v.in("w", w, "channels | tokens channels");
    v.out("y", y, "tokens channels");
  }
};

// da = (1 - w) dy,   db = w dy,   dw = (b - a) dy, summed over the tokens where w is one row for all
struct LerpBackward {
  static constexpr const char* kName = "lerpBackward";
  using GradientOf = Lerp;
  Tensor a, b, w, dy, da, db, dw;

  template <class V>
  void fields(V& v) {
    v.in("a", a, "tokens channels");
    v.in("b", b, "tokens channels");
    v.in("w", w, "channels | tokens channels");
    v.in("dy", dy, "tokens channels");
    v.wanted("da", da, "tokens channels");
    v.wanted("db", db, "tokens channels");
    v.wanted("dw", dw, "channels | tokens channels");
  }
};

}  // namespace statespace
