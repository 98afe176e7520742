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

}  // namespace statespace
