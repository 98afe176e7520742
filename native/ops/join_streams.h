#pragma once
// One row of several streams, per token: y = Σ_c weights_c x_c.
#include "core/fields.h"

namespace statespace {

struct JoinStreams {
  static constexpr const char* kName = "joinStreams";
  Tensor x, weights, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams channels");
    v.in("weights", weights, "tokens streams");
    v.out("y", y, "tokens channels");
  }
};

// dx_c = weights_c dy,   dweights_c = x_c·dy
struct JoinStreamsBackward {
  static constexpr const char* kName = "joinStreamsBackward";
  using GradientOf = JoinStreams;
  Tensor x, weights, dy, dx, dweights;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams channels");
    v.in("weights", weights, "tokens streams");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens streams channels");
    v.wanted("dweights", dweights, "tokens streams");
  }
};

}  // namespace statespace
