#pragma once
// Each sequence backwards in time: y_t = x_{begin + end - 1 - t}. With a causal op between two of these a bidirectional
// model gets its second direction.
#include "core/demands.h"
#include "core/fields.h"

namespace statespace {

struct Reverse {
  static constexpr const char* kName = "reverse";
  Tensor x, cu_seqlens, y;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.out("y", y, "tokens channels");
  }

  Demands demands() const { return {.whole_sequences = true}; }
};

// Its own inverse: dx is dy in that order.
struct ReverseBackward {
  static constexpr const char* kName = "reverseBackward";
  using GradientOf = Reverse;
  Tensor cu_seqlens, dy, dx;

  template <class V>
  void fields(V& v) {
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.in("dy", dy, "tokens channels");
    v.wanted("dx", dx, "tokens channels");
  }
};

}  // namespace statespace
