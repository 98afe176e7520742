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

}  // namespace statespace
