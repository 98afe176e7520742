#pragma once
// A value for every stream as far as its key and query agree (Qwen4's per-layer embeddings), per token:
//   y_c = sigmoid(root(k_c·q_c / sqrt(channels))) · v,   root(s) = sign(s) · sqrt(max(|s|, 1e-6))
#include "core/fields.h"

namespace statespace {

struct StreamGate {
  static constexpr const char* kName = "streamGate";
  Tensor q, k, v, y;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens streams channels");
    v.in("k", k, "tokens streams channels");
    v.in("v", this->v, "tokens channels");
    v.out("y", y, "tokens streams channels");
  }
};

}  // namespace statespace
