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

// dx = scale · dy,   dscale = Σ_t x dy,   dshift = Σ_t dy
struct AffineBackward {
  static constexpr const char* kName = "affineBackward";
  using GradientOf = Affine;
  Tensor x, scale, dy, dx, dscale, dshift;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("scale", scale, "channels");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dscale", dscale, "channels");
    v.wanted("dshift", dshift, "channels");
  }
};

}  // namespace statespace
