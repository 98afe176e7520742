#pragma once
// The rows that a head needs: y_s = x at the last token of sequence s, zeros for a sequence without tokens.
#include "core/error.h"
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

  void check() const {
    const int64_t sequences = cu_seqlens ? cu_seqlens[0] - 1 : 1;
    if (y[0] != sequences)
      throw Error(Code::kShape, "selectLast: y: expected a row for each of " + std::to_string(sequences) +
                                    " sequences, received " + std::to_string(y[0]));
  }
};

}  // namespace statespace
