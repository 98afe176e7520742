#pragma once
// Gated linear attention (Yang et al. 2024), per head, S (key, value):
//   S = diag(e^{g_t}) S + k_t v_tᵀ,   y_t = Sᵀ q_t / sqrt(key)
// g is the LOG decay, at most 0; the scaling by 1/sqrt(key) is inside. Head h of q reads head h / (nheads / nheads_kv)
// of k, v and g.
// recurrent goes token by token; chunked takes matrix products over short chunks. Both compute the same function.
#include "core/error.h"
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct Gla {
  static constexpr const char* kName = "gla";
  Tensor q, k, v, g, cu_seqlens, slots, state, y, states;
  int32_t mode = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads key");
    visitor.in("k", k, "tokens nheads_kv key");
    visitor.in("v", v, "tokens nheads_kv value");
    visitor.in("g", g, "tokens nheads_kv key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool nheads key value");
    visitor.out("y", y, "tokens nheads value");
    visitor.wanted("states", states, "tokens 2 nheads value");
    visitor.choice("mode", mode, "recurrent|chunked");
  }

  bool keeps() const { return kept_states::fit(states, k[2]); }
  bool chunked() const { return mode == 1 || keeps(); }

  void check() const {
    if (k[1] == 0 || q[1] % k[1] != 0)
      throw Error(Code::kShape,
                  "gla: nheads " + std::to_string(q[1]) + " is no multiple of nheads_kv " + std::to_string(k[1]));
    kept_states::check(kName, states);
  }
};

// Backwards in time, G the gradient of the state behind a token, s = 1/sqrt(key):
//   G += s q dyᵀ;   dq = s S_t dy,   dk = G v,   dv = Gᵀk,   dg = e^g Σ_v G∘S_{t-1};   then G = diag(e^g) G
// dk, dv and dg are summed over the heads of q that share them.
struct GlaBackward {
  static constexpr const char* kName = "glaBackward";
  using GradientOf = Gla;
  Tensor q, k, v, g, cu_seqlens, initial_state, states, dy, dlast_state, dq, dk, dv, dg, dinitial_state;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads key");
    visitor.in("k", k, "tokens nheads_kv key");
    visitor.in("v", v, "tokens nheads_kv value");
    visitor.in("g", g, "tokens nheads_kv key");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences nheads key value");
    visitor.optional("states", states, "tokens 2 nheads value");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.optional("dlastState", dlast_state, "sequences nheads key value");
    visitor.wanted("dq", dq, "tokens nheads key");
    visitor.wanted("dk", dk, "tokens nheads_kv key");
    visitor.wanted("dv", dv, "tokens nheads_kv value");
    visitor.wanted("dg", dg, "tokens nheads_kv key");
    visitor.wanted("dinitialState", dinitial_state, "sequences nheads key value");
  }

  void check() const {
    if (k[1] == 0 || q[1] % k[1] != 0)
      throw Error(Code::kShape, "glaBackward: nheads " + std::to_string(q[1]) + " is no multiple of nheads_kv " +
                                    std::to_string(k[1]));
    kept_states::check(kName, states);
  }
  bool kept() const { return kept_states::fit(states, k[2]); }
};

}  // namespace statespace
