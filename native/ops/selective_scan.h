#pragma once
// Mamba's fused selective scan (Gu & Dao 2023, section 3): per channel d and state n
//   dt = softplus(delta + delta_bias)          (each optional)
//   h  = exp(dt·A) h + dt·B·u,   y = C·h + D·u,   y *= silu(z)
// B and C vary over time (rank 3, channel c belongs to group c / (d_inner / ngroups)) or are constant (rank 2).
// `states`, for the gradient: of a real scan the state before every I-th token of a sequence, I = interval(d_state);
// that before token t of all as rows (t / I - 1) d_state … of d_inner channels, which no other one has. A complex scan
// leaves them as they are. Complex when A has a last axis [re, im]: then B, C and the state have one too, and y =
// 2·Re(C·h).
#include <algorithm>

#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct SelectiveScan {
  static constexpr const char* kName = "selectiveScan";
  Tensor u, delta, A, B, C, D, z, delta_bias, cu_seqlens, slots, state, y, states;
  bool delta_softplus = false;

  template <class V>
  void fields(V& v) {
    const char* floats = A.rank == 3 ? kF32 : kHostFloats;
    v.in("u", u, "tokens d_inner", floats);
    v.in("delta", delta, "tokens d_inner", floats);
    v.in("A", A, "d_inner d_state | d_inner d_state 2");
    // A constant complex B has as many axes as one that varies and is real: A says which is meant.
    const char* coefficient =
        A.rank == 2   ? "tokens ngroups d_state | d_inner d_state"
        : A.rank == 3 ? "tokens ngroups d_state 2 | d_inner d_state 2"
                      : "tokens ngroups d_state | d_inner d_state | tokens ngroups d_state 2 | d_inner d_state 2";
    v.in("B", B, coefficient, B.rank > 0 && B.rank == A.rank ? kF32 : floats);
    v.in("C", C, coefficient, C.rank > 0 && C.rank == A.rank ? kF32 : floats);
    v.optional("D", D, "d_inner");
    v.optional("z", z, "tokens d_inner", floats);
    v.optional("deltaBias", delta_bias, "d_inner");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool d_inner d_state | pool d_inner d_state 2");
    v.out("y", y, "tokens d_inner");
    v.wanted("states", states, "tokens d_inner");
    v.attr("deltaSoftplus", delta_softplus);
  }

  bool complex() const { return A.rank == 3; }
  bool constant(const Tensor& b) const { return b.rank == A.rank; }
  // As many tokens as rows of a state, in steps that all kernels' tiles divide: the states kept of a sequence are no
  // larger than its channels.
  static int64_t interval(int64_t d_state) { return std::max<int64_t>(32, (d_state + 31) / 32 * 32); }

  // Whether B, or C, fits A and u.
  static void check_coefficients(const std::string& op, const Tensor& u, const Tensor& A, const Tensor& b) {
    const bool varies = b.rank == A.rank + 1 && b.shape[2] == A[1] && b.shape[0] == u[0];
    const bool fixed = b.rank == A.rank && b.shape[0] == A[0] && b.shape[1] == A[1];
    const bool pairs = A.rank == 2 || b.shape[b.rank - 1] == 2;
    if (!(varies || fixed) || !pairs)
      throw Error(Code::kShape,
                  op + ": B and C must be real or complex as A is, and constant (d_inner, d_state) or per token");
    if (varies && (b.shape[1] == 0 || A[0] % b.shape[1] != 0))
      throw Error(Code::kShape, op + ": d_inner " + std::to_string(A[0]) + " is no multiple of ngroups " +
                                    std::to_string(b.shape[1]));
  }

  void check() const {
    check_coefficients(kName, u, A, B);
    check_coefficients(kName, u, A, C);
    if (state.rank != A.rank + 1) throw Error(Code::kShape, "selectiveScan: state must be real or complex as A is");
  }
};

// The adjoint scan, backwards in time, over states that are computed again from those kept at intervals: by the
// forward, or, without its `states`, by one more. With g = dy · silu(z), a = exp(dt·A):
//   λ_t = C g_t + a_{t+1} λ_{t+1},   q = λ a h_{t-1},   dC = g h,   dB = λ dt u,   dA = Σ dt q,   dinitialState = a_1
//   λ_1 du = D g + dt Σ_n λ B,   ddt = Σ_n (A q + B u λ),   dD = Σ g u,   dz = dy · y · silu'(z)
// B and C may have different numbers of groups. Complex gradients are (∂/∂re, ∂/∂im).
struct SelectiveScanBackward {
  static constexpr const char* kName = "selectiveScanBackward";
  using GradientOf = SelectiveScan;
  Tensor u, delta, A, B, C, D, z, delta_bias, cu_seqlens, initial_state, states, dy, dlast_state;
  Tensor du, ddelta, dA, dB, dC, dD, dz, ddelta_bias, dinitial_state;
  bool delta_softplus = false;

  template <class V>
  void fields(V& v) {
    const char* state = "sequences d_inner d_state | sequences d_inner d_state 2";
    const char* b = "tokens B_groups d_state | d_inner d_state | tokens B_groups d_state 2 | d_inner d_state 2";
    const char* c = "tokens C_groups d_state | d_inner d_state | tokens C_groups d_state 2 | d_inner d_state 2";
    v.in("u", u, "tokens d_inner");
    v.in("delta", delta, "tokens d_inner");
    v.in("A", A, "d_inner d_state | d_inner d_state 2");
    v.in("B", B, b);
    v.in("C", C, c);
    v.optional("D", D, "d_inner");
    v.optional("z", z, "tokens d_inner");
    v.optional("deltaBias", delta_bias, "d_inner");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.optional("initialState", initial_state, state);
    v.optional("states", states, "tokens d_inner");
    v.in("dy", dy, "tokens d_inner");
    v.optional("dlastState", dlast_state, state);
    v.wanted("du", du, "tokens d_inner");
    v.wanted("ddelta", ddelta, "tokens d_inner");
    v.wanted("dA", dA, "d_inner d_state | d_inner d_state 2");
    v.wanted("dB", dB, b);
    v.wanted("dC", dC, c);
    v.wanted("dD", dD, "d_inner");
    v.wanted("dz", dz, "tokens d_inner");
    v.wanted("ddeltaBias", ddelta_bias, "d_inner");
    v.wanted("dinitialState", dinitial_state, state);
    v.attr("deltaSoftplus", delta_softplus);
  }

  bool complex() const { return A.rank == 3; }
  bool constant(const Tensor& b) const { return b.rank == A.rank; }
  static int64_t interval(int64_t d_state) { return SelectiveScan::interval(d_state); }

  void check() const {
    SelectiveScan::check_coefficients(kName, u, A, B);
    SelectiveScan::check_coefficients(kName, u, A, C);
    for (const Tensor* state : {&initial_state, &dlast_state, &dinitial_state})
      if (*state && state->rank != A.rank + 1)
        throw Error(Code::kShape, "selectiveScanBackward: states must be real or complex as A is");
  }
};

}  // namespace statespace
