#pragma once
// All fixed mixes of a token with its predecessor in one pass over x (RWKV's time_mix_* and x_*):
//   y[t][m] = x_t + (x_{t-1} - x_t) · mix[m]
// with the predecessor and the state of tokenShift. mix[m] is the weight of the PREVIOUS token: RWKV-5/6 maa and RWKV-7
// x_r, x_w … as they are, RWKV-4 and 5.2 time_mix_* as 1 - time_mix. A row y[t] holds the mixes one after another, so
// that splitting its channels gives the inputs of the projections as views.
#include "core/fields.h"

namespace statespace {

struct TokenShiftMix {
  static constexpr const char* kName = "tokenShiftMix";
  Tensor x, mix, cu_seqlens, slots, state, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("mix", mix, "mixes channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels");
    v.out("y", y, "tokens mixes channels");
  }
};

// dx_t = Σ_m (1 - mix[m]) dy[t][m] + mix[m] dy[t+1][m],   dmix[m] = Σ_t (x_{t-1} - x_t) dy[t][m]
struct TokenShiftMixBackward {
  static constexpr const char* kName = "tokenShiftMixBackward";
  using GradientOf = TokenShiftMix;
  Tensor x, mix, cu_seqlens, dy, dx, dmix;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("mix", mix, "mixes channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens mixes channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dmix", dmix, "mixes channels");
  }
};

}  // namespace statespace
