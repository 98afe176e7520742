#pragma once
// y_s = the mean over time of sequence s; zeros for an empty sequence.
#include "core/fields.h"

namespace statespace {

struct MeanPool {
  static constexpr const char* kName = "meanPool";
  Tensor x, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "sequences channels");
  }
};

}  // namespace statespace
