#pragma once
// y = scale · x + shift, a factor and a summand a channel. y may be x.
#include "core/fields.h"

namespace statespace {

struct Affine {
  static constexpr const char* kName = "affine";
  Tensor x, scale, shift, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("scale", scale, "channels");
    v.optional("shift", shift, "channels");
    v.out("y", y, "tokens channels");
  }
};

}  // namespace statespace
