#pragma once
// RWKV-7's generalised delta rule (Peng et al. 2025), per head, S (value, key):
//   S = S diag(e^{w_t}) + (S a_t) b_tᵀ + v_t k_tᵀ,   y_t = S r_t
// with S a_t of the old S; w is the LOG decay, at most 0. RWKV-7 passes a = -kk and b = kk ∘ gate, kk of unit length.
// recurrent goes token by token; chunked solves a triangular system per chunk. Both compute the same function.
#include "core/fields.h"

namespace statespace {

struct Wkv7 {
  static constexpr const char* kName = "wkv7";
  Tensor r, w, k, v, a, b, cu_seqlens, slots, state, y;
  int32_t mode = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("r", r, "tokens nheads key");
    visitor.in("w", w, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("a", a, "tokens nheads key");
    visitor.in("b", b, "tokens nheads key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool nheads value key");
    visitor.out("y", y, "tokens nheads value");
    visitor.choice("mode", mode, "recurrent|chunked");
  }

  bool chunked() const { return mode == 1; }
};

}  // namespace statespace
