#pragma once
// The delta rule, per head, S (key, value):
//   S = diag(e^{g_t}) S,   S += k_t (β_t (v_t - Sᵀ k_t))ᵀ,   y_t = Sᵀ q_t / sqrt(key)
// g is the LOG decay: one a head (gated delta rule, Yang et al. 2024; Qwen3-Next), one a key (Kimi delta attention,
// 2025), or absent (the plain rule, Schlag et al. 2021). The scaling by 1/sqrt(key) is inside; q and k come normalised.
// Head h of v, g and beta reads head h / (nheads / nheads_k) of q and k.
// What a token writes is made of its innovation e_t = v_t - Sᵀk_t, which can be kept for the gradient.
// recurrent goes token by token; chunked solves a triangular system per chunk. Both compute the same function.
#include "core/error.h"
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct GatedDeltaRule {
  static constexpr const char* kName = "gatedDeltaRule";
  Tensor q, k, v, g, beta, cu_seqlens, slots, state, y, states, innovations;
  int32_t mode = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads_k key");
    visitor.in("k", k, "tokens nheads_k key");
    visitor.in("v", v, "tokens nheads value");
    visitor.optional("g", g, "tokens nheads | tokens nheads key");
    visitor.in("beta", beta, "tokens nheads");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool nheads key value");
    visitor.out("y", y, "tokens nheads value");
    visitor.wanted("states", states, "tokens 2 nheads value");
    visitor.wanted("innovations", innovations, "tokens nheads value");
    visitor.choice("mode", mode, "recurrent|chunked");
  }

  bool keeps() const { return kept_states::fit(states, k[2]); }
  bool chunked() const { return mode == 1 || keeps(); }
  bool decays_by_key() const { return g && g.rank == 3; }

  void check() const {
    kept_states::check(kName, states);
    if (k[1] == 0 || v[1] % k[1] != 0)
      throw Error(Code::kShape, "gatedDeltaRule: nheads " + std::to_string(v[1]) + " is no multiple of nheads_k " +
                                    std::to_string(k[1]));
  }
};

// Backwards in time, G the gradient of the state behind a token, R = diag(e^g) S of the state before it, e = v - Rᵀk,
// s = 1/sqrt(key):
//   G += s q dyᵀ;   dq = s S_t dy;   r = Gᵀk,   dbeta = r·e,   dv = β r,   dk = β G e - R dv
//   dR = G - k dvᵀ,   dg = Σ_v dR∘R, over the keys as well where they share one;   then G = diag(e^g) dR
struct GatedDeltaRuleBackward {
  static constexpr const char* kName = "gatedDeltaRuleBackward";
  using GradientOf = GatedDeltaRule;
  Tensor q, k, v, g, beta, cu_seqlens, initial_state, states, innovations, dy, dlast_state;
  Tensor dq, dk, dv, dg, dbeta, dinitial_state;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads_k key");
    visitor.in("k", k, "tokens nheads_k key");
    visitor.in("v", v, "tokens nheads value");
    visitor.optional("g", g, "tokens nheads | tokens nheads key");
    visitor.in("beta", beta, "tokens nheads");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences nheads key value");
    visitor.optional("states", states, "tokens 2 nheads value");
    visitor.optional("innovations", innovations, "tokens nheads value");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.optional("dlastState", dlast_state, "sequences nheads key value");
    visitor.wanted("dq", dq, "tokens nheads_k key");
    visitor.wanted("dk", dk, "tokens nheads_k key");
    visitor.wanted("dv", dv, "tokens nheads value");
    visitor.wanted("dg", dg, "tokens nheads | tokens nheads key");
    visitor.wanted("dbeta", dbeta, "tokens nheads");
    visitor.wanted("dinitialState", dinitial_state, "sequences nheads key value");
  }

  bool decays_by_key() const { return g && g.rank == 3; }
  bool kept() const { return kept_states::fit(states, k[2]); }

  void check() const {
    kept_states::check(kName, states);
    if (dg && !(g && g.rank == dg.rank))
      throw Error(Code::kShape, "gatedDeltaRuleBackward: dg must have the shape of g");
    if (k[1] == 0 || v[1] % k[1] != 0)
      throw Error(Code::kShape, "gatedDeltaRuleBackward: nheads " + std::to_string(v[1]) +
                                    " is no multiple of nheads_k " + std::to_string(k[1]));
  }
};

}  // namespace statespace
