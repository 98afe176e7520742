#pragma once
// The rows that a head needs: y_s = x at the last token of sequence s.
#include "core/fields.h"

namespace statespace {

struct SelectLast {
  static constexpr const char* kName = "selectLast";
  Tensor x, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "sequences channels");
  }
};

}  // namespace statespace
