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

// With s = k_c·q_c / sqrt(channels) and g = sigmoid(root(s)):
//   dv = Σ_c g_c dy_c,   ds = (v·dy_c) g (1 - g) / (2 sqrt|s|), 0 where |s| is below 1e-6,   dk_c = ds q_c /
//   sqrt(channels), dq_c as much of k_c
struct StreamGateBackward {
  static constexpr const char* kName = "streamGateBackward";
  using GradientOf = StreamGate;
  Tensor q, k, v, dy, dq, dk, dv;

  template <class V>
  void fields(V& v) {
    v.in("q", q, "tokens streams channels");
    v.in("k", k, "tokens streams channels");
    v.in("v", this->v, "tokens channels");
    v.in("dy", dy, "tokens streams channels");
    v.wanted("dq", dq, "tokens streams channels");
    v.wanted("dk", dk, "tokens streams channels");
    v.wanted("dv", dv, "tokens channels");
  }
};

}  // namespace statespace
