#pragma once
// y_s = the maximum over time of sequence s, of all its tokens so far: the state holds that of earlier calls, -inf at
// first. -inf for an empty sequence.
#include "core/fields.h"

namespace statespace {

struct MaxPool {
  static constexpr const char* kName = "maxPool";
  Tensor x, cu_seqlens, slots, state, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels");
    v.out("y", y, "sequences channels");
  }
};

// dx_t = dy_s at the first token that has the maximum of its sequence s, which begins here; 0 at the others.
struct MaxPoolBackward {
  static constexpr const char* kName = "maxPoolBackward";
  using GradientOf = MaxPool;
  Tensor x, dy, cu_seqlens, dx;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("dy", dy, "sequences channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.wanted("dx", dx, "tokens channels");
  }
};

}  // namespace statespace
