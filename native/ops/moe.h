#pragma once
// Top-k routed experts (Shazeer et al. 2017; Mixtral, Jamba), per token:
//   p = softmax(router·x) over all experts, or `weights`, another router's (expertWeights; none below 0)
//   chosen = the topK largest p, ties to the lower index
//   y = Σ_{e in chosen} p_e · down_e h_e,   h_e = act(gate_e·x) · up_e·x
// gateUp[e] is [gate, up], or up alone: then h_e = act(up_e·x). renormalize divides the chosen p by their sum
// (Mixtral); without it they stay as they are (Jamba). A limit > 0 clamps the gate from above and up from both sides.
// No token is dropped. What act and the gate are taken of, gate_e·x and up_e·x of the chosen in their order, can be
// kept for the gradient (hidden).
#include "core/error.h"
#include "core/fields.h"
#include "ops/activations.h"

namespace statespace {

struct Moe {
  static constexpr const char* kName = "moe";
  Tensor x, router, weights, gate_up, down, y, hidden;
  int64_t top_k = 1;
  bool renormalize = false;
  int32_t activation = int32_t(Activation::silu);
  float limit = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens d_model");
    v.optional("router", router, "experts d_model", kWeights);
    v.optional("weights", weights, "tokens experts");
    v.in("gateUp", gate_up, "experts 2 d_ff d_model | experts 1 d_ff d_model", kWeights);
    v.in("down", down, "experts d_model d_ff", kWeights);
    v.out("y", y, "tokens d_model");
    v.wanted("hidden", hidden, "tokens topK 2 d_ff | tokens topK 1 d_ff");
    v.attr("topK", top_k);
    v.attr("renormalize", renormalize);
    v.choice("activation", activation, kActivations);
    v.attr("limit", limit);
  }

  bool gated() const { return gate_up[1] == 2; }

  void check() const {
    if (bool(router) == bool(weights))
      throw Error(Code::kArgument, "moe: expected a router or the weights of one, one of the two");
    if (limit > 0 && !gated()) throw Error(Code::kArgument, "moe: limit: only gated experts have one");
    if (top_k < 1 || top_k > down[0])
      throw Error(Code::kArgument, "moe: topK: expected 1 to " + std::to_string(down[0]) +
                                       " (the number of experts), received " + std::to_string(top_k));
    if (hidden && (hidden[1] != top_k || hidden[2] != gate_up[1] || hidden.row_stride != hidden.row_size()))
      throw Error(Code::kShape, "moe: hidden: expected topK=" + std::to_string(top_k) + " times " +
                                    std::to_string(gate_up[1]) + " rows of d_ff for a token, without gaps");
  }
};

// With h_e = act(gate_e·x) · up_e·x, c_e the weights of the chosen experts and p the softmax:
//   ddown_e = Σ_t c_e dy h_eᵀ,   dh = c_e down_eᵀdy, through the gate to dgateUp and dx;   dc_e = dy·(down_e h_e)
//   dlogit_i = p_i (dc_i - Σ_e p_e dc_e), of which dc_i only where i is chosen; renormalized c_i (dc_i - Σ_e c_e dc_e)
//   for the chosen and 0 for the others. Then drouter and dx. With weights in place of a router dweights holds dc.
// The choice itself has no gradient. accumulate adds drouter, dgateUp and ddown to what is there: experts without
// tokens are left alone.
struct MoeBackward {
  static constexpr const char* kName = "moeBackward";
  using GradientOf = Moe;
  Tensor x, router, weights, gate_up, down, hidden, dy, dx, drouter, dweights, dgate_up, ddown;
  int64_t top_k = 1;
  bool renormalize = false;
  int32_t activation = int32_t(Activation::silu);
  float limit = 0;
  bool accumulate = false;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens d_model");
    v.optional("router", router, "experts d_model", kWeights);
    v.optional("weights", weights, "tokens experts");
    v.in("gateUp", gate_up, "experts 2 d_ff d_model | experts 1 d_ff d_model", kWeights);
    v.in("down", down, "experts d_model d_ff", kWeights);
    v.optional("hidden", hidden, "tokens topK 2 d_ff | tokens topK 1 d_ff");
    v.in("dy", dy, "tokens d_model");
    v.wanted("dx", dx, "tokens d_model");
    v.wanted("drouter", drouter, "experts d_model");
    v.wanted("dweights", dweights, "tokens experts");
    v.wanted("dgateUp", dgate_up, "experts 2 d_ff d_model | experts 1 d_ff d_model");
    v.wanted("ddown", ddown, "experts d_model d_ff");
    v.attr("topK", top_k);
    v.attr("renormalize", renormalize);
    v.choice("activation", activation, kActivations);
    v.attr("limit", limit);
    v.attr("accumulate", accumulate);
  }

  Moe forward() const {
    Moe op;
    op.x = x, op.router = router, op.weights = weights, op.gate_up = gate_up, op.down = down, op.hidden = hidden;
    op.top_k = top_k, op.renormalize = renormalize, op.activation = activation, op.limit = limit;
    return op;
  }
  void check() const { forward().check(); }
};

}  // namespace statespace
