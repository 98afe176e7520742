#pragma once
// RWKV-7's generalised delta rule (Peng et al. 2025), per head, S (value, key):
//   S = S diag(e^{w_t}) + (S a_t) b_tᵀ + v_t k_tᵀ,   y_t = S r_t
// with S a_t of the old S; w is the LOG decay, at most 0. RWKV-7 passes a = -kk and b = kk ∘ gate, kk of unit length.
// recurrent goes token by token; chunked solves a triangular system per chunk. Both compute the same function.
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct Wkv7 {
  static constexpr const char* kName = "wkv7";
  Tensor r, w, k, v, a, b, cu_seqlens, slots, state, y, states;
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
    visitor.wanted("states", states, "tokens 2 nheads value");
    visitor.choice("mode", mode, "recurrent|chunked");
  }

  bool keeps() const { return kept_states::fit(states, k[2]); }
  bool chunked() const { return mode == 1 || keeps(); }
  void check() const { kept_states::check(kName, states); }
};

// Backwards in time, G the gradient of the state behind a token, S the state before it:
//   G += dy rᵀ;   dr = S_tᵀdy,   dv = G k,   dk = Gᵀv,   da = Sᵀ(G b),   db = Gᵀ(S a),   dw = e^w Σ_v G∘S
//   then G = G diag(e^w) + (G b) aᵀ
struct Wkv7Backward {
  static constexpr const char* kName = "wkv7Backward";
  using GradientOf = Wkv7;
  Tensor r, w, k, v, a, b, cu_seqlens, initial_state, states, dy, dlast_state;
  Tensor dr, dw, dk, dv, da, db, dinitial_state;

  template <class V>
  void fields(V& visitor) {
    visitor.in("r", r, "tokens nheads key");
    visitor.in("w", w, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("a", a, "tokens nheads key");
    visitor.in("b", b, "tokens nheads key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences nheads value key");
    visitor.optional("states", states, "tokens 2 nheads value");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.optional("dlastState", dlast_state, "sequences nheads value key");
    visitor.wanted("dr", dr, "tokens nheads key");
    visitor.wanted("dw", dw, "tokens nheads key");
    visitor.wanted("dk", dk, "tokens nheads key");
    visitor.wanted("dv", dv, "tokens nheads value");
    visitor.wanted("da", da, "tokens nheads key");
    visitor.wanted("db", db, "tokens nheads key");
    visitor.wanted("dinitialState", dinitial_state, "sequences nheads value key");
  }

  bool kept() const { return kept_states::fit(states, k[2]); }
  void check() const { kept_states::check(kName, states); }
};

}  // namespace statespace
