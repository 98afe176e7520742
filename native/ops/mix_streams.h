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

// dx_j = Σ_c mix[j, c] dy_c   (mix absent: dy_j),   dmix[j, c] = x_j·dy_c,   dout = Σ_c gain_c dy_c,   dgain_c =
// out·dy_c
struct MixStreamsBackward {
  static constexpr const char* kName = "mixStreamsBackward";
  using GradientOf = MixStreams;
  Tensor x, mix, out, gain, dy, dx, dmix, dout, dgain;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens streams channels");
    v.optional("mix", mix, "tokens streams streams");
    v.in("out", out, "tokens channels");
    v.in("gain", gain, "tokens streams");
    v.in("dy", dy, "tokens streams channels");
    v.wanted("dx", dx, "tokens streams channels");
    v.wanted("dmix", dmix, "tokens streams streams");
    v.wanted("dout", dout, "tokens channels");
    v.wanted("dgain", dgain, "tokens streams");
  }
};

}  // namespace statespace
