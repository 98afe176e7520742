#pragma once
// RetNet's retention (Sun et al. 2023), per head, γ = e^{logDecay}, S (key, value):
//   S = γ S + k_t v_tᵀ,   y_t = scale · Sᵀ q_t
// A scale of 0 stands for RetNet's 1/sqrt(key); with 1 this is lightning attention (MiniMax-01, 2025). parallel weighs
// all pairs of tokens, (q kᵀ ∘ γ^{t-s}) v; recurrent goes token by token; chunkwise is parallel inside chunks of
// chunkSize tokens and recurrent between them. All compute the same function, the state included.
#include <cmath>

#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct Retention {
  static constexpr const char* kName = "retention";
  Tensor q, k, v, log_decay, cu_seqlens, slots, state, y;
  int32_t mode = 0;
  int64_t chunk_size = 64;
  float scale = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("logDecay", log_decay, "nheads");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool nheads key value");
    visitor.out("y", y, "tokens nheads value");
    visitor.choice("mode", mode, "chunkwise|recurrent|parallel");
    visitor.attr("chunkSize", chunk_size);
    visitor.attr("scale", scale);
  }

  float scaling() const { return scale != 0 ? scale : 1 / std::sqrt(float(k[2])); }

  enum Mode { kChunkwise, kRecurrent, kParallel };

  void check() const {
    if (chunk_size < 1)
      throw Error(Code::kArgument, "retention: chunkSize: expected at least 1, received " + std::to_string(chunk_size));
  }
};

// Backwards in time, G the gradient of the state behind a token, S the state before it, s the scale:
//   G += s q dyᵀ;   dq = s S_t dy,   dk = G v,   dv = Gᵀk,   dlogDecay = Σ γ⟨G, S⟩;   then G = γ G
struct RetentionBackward {
  static constexpr const char* kName = "retentionBackward";
  using GradientOf = Retention;
  Tensor q, k, v, log_decay, cu_seqlens, initial_state, dy, dlast_state;
  Tensor dq, dk, dv, dlog_decay, dinitial_state;
  float scale = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("q", q, "tokens nheads key");
    visitor.in("k", k, "tokens nheads key");
    visitor.in("v", v, "tokens nheads value");
    visitor.in("logDecay", log_decay, "nheads");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences nheads key value");
    visitor.in("dy", dy, "tokens nheads value");
    visitor.optional("dlastState", dlast_state, "sequences nheads key value");
    visitor.wanted("dq", dq, "tokens nheads key");
    visitor.wanted("dk", dk, "tokens nheads key");
    visitor.wanted("dv", dv, "tokens nheads value");
    visitor.wanted("dlogDecay", dlog_decay, "nheads");
    visitor.wanted("dinitialState", dinitial_state, "sequences nheads key value");
    visitor.attr("scale", scale);
  }

  float scaling() const { return scale != 0 ? scale : 1 / std::sqrt(float(k[2])); }
};

}  // namespace statespace
