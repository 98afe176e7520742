#pragma once
// The linear attention of RWKV-5 and RWKV-6 (Peng et al. 2024), per head, S (key, value):
//   y_t = Sᵀ r_t + (r_t · (u ∘ k_t)) v_t,   S = diag(e^{w_t}) S + k_t v_tᵀ
// w is the LOG decay, at most 0: one row for all tokens in RWKV-5 (-exp(time_decay)), one per token in RWKV-6.
// recurrent goes token by token; chunked takes matrix products over short chunks. Both compute the same function.
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct Wkv6 {
  static constexpr const char* kName = "wkv6";
  Tensor r, k, v, w, u, cu_seqlens, slots, state, y, states;
  int32_t mode = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("r", r, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("w", w, "nheads key | tokens nheads key");
    visitor.in("u", u, "nheads key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool nheads key value");
    visitor.out("y", y, "tokens nheads value");
    visitor.wanted("states", states, "tokens 2 nheads value");
    visitor.choice("mode", mode, "recurrent|chunked");
  }

  bool keeps() const { return kept_states::fit(states, k[2]); }
  bool chunked() const { return mode == 1 || keeps(); }
  void check() const { kept_states::check(kName, states); }
};

// Backwards in time, G the gradient of the state behind a token:
//   dr = (S + diag(u) k vᵀ) dy,   du = Σ r k (v·dy),   dk = G v + u r (v·dy),   dv = Gᵀk + dy Σ r u k
//   dw = e^w Σ_v G∘S;   then G = diag(e^w) G + r dyᵀ,   with S before the token
struct Wkv6Backward {
  static constexpr const char* kName = "wkv6Backward";
  using GradientOf = Wkv6;
  Tensor r, k, v, w, u, cu_seqlens, initial_state, states, dy, dlast_state;
  Tensor dr, dk, dv, dw, du, dinitial_state;

  template <class V>
  void fields(V& visitor) {
    visitor.in("r", r, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("w", w, "nheads key | tokens nheads key");
    visitor.in("u", u, "nheads key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences nheads key value");
    visitor.optional("states", states, "tokens 2 nheads value");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.optional("dlastState", dlast_state, "sequences nheads key value");
    visitor.wanted("dr", dr, "tokens nheads key");
    visitor.wanted("dk", dk, "tokens nheads key");
    visitor.wanted("dv", dv, "tokens nheads value");
    visitor.wanted("dw", dw, "nheads key | tokens nheads key");
    visitor.wanted("du", du, "nheads key");
    visitor.wanted("dinitialState", dinitial_state, "sequences nheads key value");
  }

  bool kept() const { return kept_states::fit(states, k[2]); }
  void check() const { kept_states::check(kName, states); }
};

}  // namespace statespace
