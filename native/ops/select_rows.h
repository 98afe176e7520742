#pragma once
// The rows that a head is computed for: y_i = x[rows[i]].
#include "core/fields.h"

namespace statespace {

struct SelectRows {
  static constexpr const char* kName = "selectRows";
  Tensor x, rows, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("rows", rows, "outputs");
    v.out("y", y, "outputs channels");
  }
};

}  // namespace statespace
