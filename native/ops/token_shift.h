#pragma once
// RWKV's token shift: y_t = x_{t-1} of the same sequence.
// Before a sequence's first token stands the state's row (zeros for a new sequence); it holds the last x afterwards.
#include "core/fields.h"

namespace statespace {

struct TokenShift {
  static constexpr const char* kName = "tokenShift";
  Tensor x, cu_seqlens, slots, state, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels");
    v.out("y", y, "tokens channels");
  }
};

// dx_t = dy_{t+1} of the same sequence, 0 at its end.
struct TokenShiftBackward {
  static constexpr const char* kName = "tokenShiftBackward";
  using GradientOf = TokenShift;
  Tensor dy, cu_seqlens, dx;

  template <class V>
  void fields(V& v) {
    v.in("dy", dy, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.wanted("dx", dx, "tokens channels");
  }
};

}  // namespace statespace
