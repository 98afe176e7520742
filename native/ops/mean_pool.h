#pragma once
// y_s = the mean over time of sequence s, of all its tokens so far: the state holds the mean of those of earlier calls,
// keyLengths their number and the new ones'. Without keyLengths the sequence begins here. Zeros for an empty sequence.
#include "core/fields.h"

namespace statespace {

struct MeanPool {
  static constexpr const char* kName = "meanPool";
  Tensor x, cu_seqlens, slots, key_lengths, state, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.runtime("keyLengths", key_lengths, "sequences");
    v.state("state", state, "pool channels");
    v.out("y", y, "sequences channels");
  }
};

// dx_t = dy_s / the number of tokens of its sequence s, which begins here.
struct MeanPoolBackward {
  static constexpr const char* kName = "meanPoolBackward";
  using GradientOf = MeanPool;
  Tensor dy, cu_seqlens, dx;

  template <class V>
  void fields(V& v) {
    v.in("dy", dy, "sequences channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.wanted("dx", dx, "tokens channels");
  }
};

}  // namespace statespace
