#pragma once
// The recurrence of a state space with a dense matrix: h_t = A h_{t-1} + v_t.
#include "core/fields.h"

namespace statespace {

struct DenseScan {
  static constexpr const char* kName = "denseScan";
  Tensor v, A, cu_seqlens, slots, state, h;

  template <class V>
  void fields(V& visit) {
    visit.in("v", v, "tokens d_state");
    visit.in("A", A, "d_state d_state");
    visit.runtime("cuSeqlens", cu_seqlens, "bounds");
    visit.runtime("slots", slots, "sequences");
    visit.state("state", state, "pool d_state");
    visit.out("h", h, "tokens d_state");
  }
};

// g_t = dh_t + Aᵀ g_{t+1};   dv = g,   dA = Σ_t g_t h_{t-1}ᵀ, of sequences that begin without a state.
struct DenseScanBackward {
  static constexpr const char* kName = "denseScanBackward";
  using GradientOf = DenseScan;
  Tensor A, h, cu_seqlens, dh, dv, dA;

  template <class V>
  void fields(V& v) {
    v.in("A", A, "d_state d_state");
    v.in("h", h, "tokens d_state");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dh", dh, "tokens d_state");
    v.wanted("dv", dv, "tokens d_state");
    v.wanted("dA", dA, "d_state d_state");
  }
};

}  // namespace statespace
