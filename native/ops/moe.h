#pragma once
// Top-k routed SwiGLU experts (Shazeer et al. 2017; Mixtral, Jamba), per token:
//   p = softmax(router·x) over all experts;   chosen = the topK largest p, ties to the lower index
//   y = Σ_{e in chosen} p_e · down_e (silu(gate_e·x) · up_e·x)
// gateUp[e] is [gate, up]. renormalize divides the chosen p by their sum (Mixtral); without
// it they stay as they are (Jamba). No token is dropped.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct Moe {
  static constexpr const char* kName = "moe";
  Tensor x, router, gate_up, down, y;
  int64_t top_k = 1;
  bool renormalize = false;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens d_model");
    v.in("router", router, "experts d_model", kWeights);
    v.in("gateUp", gate_up, "experts 2 d_ff d_model", kWeights);
    v.in("down", down, "experts d_model d_ff", kWeights);
    v.out("y", y, "tokens d_model");
    v.attr("topK", top_k);
    v.attr("renormalize", renormalize);
  }

  void check() const {
    if (top_k < 1 || top_k > router[0])
      throw Error(Code::kArgument, "moe: topK: expected 1 to " + std::to_string(router[0]) +
                                       " (the number of experts), received " + std::to_string(top_k));
  }
};

}  // namespace statespace
