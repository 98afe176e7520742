#pragma once
// Mamba's fused selective scan (Gu & Dao 2023, section 3): per channel d and state n
//   dt = softplus(delta + delta_bias)          (each optional)
//   h  = exp(dt·A) h + dt·B·u,   y = C·h + D·u,   y *= silu(z)
// B and C vary over time (rank 3, channel c belongs to group c / (d_inner / ngroups)) or are constant (rank 2).
// Complex when A has a last axis [re, im]: then B, C and the state have one too, and y = 2·Re(C·h).
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct SelectiveScan {
  static constexpr const char* kName = "selectiveScan";
  Tensor u, delta, A, B, C, D, z, delta_bias, cu_seqlens, slots, state, y;
  bool delta_softplus = false;

  template <class V>
  void fields(V& v) {
    v.in("u", u, "tokens d_inner");
    v.in("delta", delta, "tokens d_inner");
    v.in("A", A, "d_inner d_state | d_inner d_state 2");
    // A constant complex B has as many axes as one that varies and is real: A says which is meant.
    const char* coefficient =
        A.rank == 2   ? "tokens ngroups d_state | d_inner d_state"
        : A.rank == 3 ? "tokens ngroups d_state 2 | d_inner d_state 2"
                      : "tokens ngroups d_state | d_inner d_state | tokens ngroups d_state 2 | d_inner d_state 2";
    v.in("B", B, coefficient);
    v.in("C", C, coefficient);
    v.optional("D", D, "d_inner");
    v.optional("z", z, "tokens d_inner");
    v.optional("deltaBias", delta_bias, "d_inner");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool d_inner d_state | pool d_inner d_state 2");
    v.out("y", y, "tokens d_inner");
    v.attr("deltaSoftplus", delta_softplus);
  }

  bool complex() const { return A.rank == 3; }
  bool constant(const Tensor& b) const { return b.rank == A.rank; }

  void check() const {
    for (const Tensor* b : {&B, &C}) {
      const bool varies = b->rank == A.rank + 1 && b->shape[2] == A[1] && b->shape[0] == u[0];
      const bool fixed = b->rank == A.rank && b->shape[0] == A[0] && b->shape[1] == A[1];
      const bool pairs = !complex() || b->shape[b->rank - 1] == 2;
      if (!(varies || fixed) || !pairs)
        throw Error(
            Code::kShape,
            "selectiveScan: B and C must be real or complex as A is, and constant (d_inner, d_state) or per token");
      if (varies && (b->shape[1] == 0 || A[0] % b->shape[1] != 0))
        throw Error(Code::kShape, "selectiveScan: d_inner " + std::to_string(A[0]) + " is no multiple of ngroups " +
                                      std::to_string(b->shape[1]));
    }
    if (state.rank != A.rank + 1) throw Error(Code::kShape, "selectiveScan: state must be real or complex as A is");
  }
};

}  // namespace statespace
