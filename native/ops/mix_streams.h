#pragma once
// Streams beside one another in place of one residual (hyper-connections, Zhu et al. 2024; GLM-5, Qwen4), per token:
//   y_c = Σ_j mix[j, c] x_j + gain_c · out      (mix absent: y_c = x_c + gain_c · out)
#include "core/fields.h"

namespace statespace {

struct MixStreams {
  static constexpr const char* kName = "mixStreams";
  Tensor x, mix, out, gain, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams channels");
    v.optional("mix", mix, "tokens streams streams");
    v.in("out", out, "tokens channels");
    v.in("gain", gain, "tokens streams");
    v.out("y", y, "tokens streams channels");
  }
};

}  // namespace statespace
