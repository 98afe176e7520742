#pragma once
// Mamba-3 (2026): an exponential-trapezoidal step, a rotation that depends on the data, and R inputs and outputs of a
// head (MIMO; else R = 1). Per head h of group h / (nheads / ngroups) and token t, with tau = σ(trap), α = e^{adt},
// θ_t = θ_{t-1} + π tanh(angles_t) dt, and rot the rotation by θ_t of the first `angles` pairs of channels, (2i, 2i +
// 1) or for MIMO (i, i + d_state/2):
//   k_r = rot(B_r + BBias_r),   c_r = rot(C_r + CBias_r),   v_r = x ∘ mimoX_r       (x itself without mimoX)
//   S_t = α S_{t-1} + (1 - tau) dt α Σ_r v_r(t-1) k_r(t-1)ᵀ + tau dt Σ_r v_r k_rᵀ   (headdim, d_state)
//   y_r = S_t c_r + D v_r,   o_r = norm(y_r) ∘ silu(z ∘ mimoZ_r),   y = Σ_r o_r ∘ mimoO_r
// norm (by normWeight) is RMSNorm over the headdim. k and x of the last token are state, as is θ (in [0, 2π)).
// With rawSteps, dt stands before softplus(dt + dtBias), and adt = -max(f(adt), aFloor) dt, f(u) = 1 + u from 0 on and
// 1 / (1 - u) below: what a checkpoint's projection gives. Both modes compute the same function; chunkSize bounds the
// chunks, a kernel may take shorter ones. For the gradient are `states`, S with what the next token adds of this one,
// and `outputs`, y_r.
#include "core/error.h"
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct Mamba3 {
  static constexpr const char* kName = "mamba3";
  Tensor x, B, C, dt, adt, trap, angles, B_bias, C_bias, D, z, dt_bias, mimo_x, mimo_z, mimo_o, norm_weight;
  Tensor cu_seqlens, slots, angle_state, ssm_state, k_state, v_state, y, states, outputs;
  float norm_eps = 1e-5f, a_floor = 1e-4f;
  bool raw_steps = false;
  int64_t chunk_size = 64;
  int32_t mode = 0;

  template <class V>
  void fields(V& visitor) {
    visitor.in("x", x, "tokens nheads headdim");
    visitor.in("B", B, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.in("C", C, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.in("dt", dt, "tokens nheads");
    visitor.in("adt", adt, "tokens nheads");
    visitor.in("trap", trap, "tokens nheads");
    visitor.in("angles", angles, "tokens angles | tokens nheads angles");
    visitor.in("BBias", B_bias, "nheads d_state | nheads rank d_state");
    visitor.in("CBias", C_bias, "nheads d_state | nheads rank d_state");
    visitor.optional("D", D, "nheads");
    visitor.optional("z", z, "tokens nheads headdim");
    visitor.optional("dtBias", dt_bias, "nheads");
    visitor.optional("mimoX", mimo_x, "nheads rank headdim");
    visitor.optional("mimoZ", mimo_z, "nheads rank headdim");
    visitor.optional("mimoO", mimo_o, "nheads rank headdim");
    visitor.optional("normWeight", norm_weight, "nheads headdim");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("angle", angle_state, "pool nheads angles");
    visitor.state("ssm", ssm_state, "pool nheads headdim d_state");
    visitor.state("k", k_state, "pool nheads d_state | pool rank nheads d_state");
    visitor.state("v", v_state, "pool nheads headdim");
    visitor.out("y", y, "tokens nheads headdim");
    visitor.wanted("states", states, "tokens 2 nheads headdim");
    visitor.wanted("outputs", outputs, "tokens rank nheads headdim | tokens nheads headdim");
    visitor.attr("normEps", norm_eps);
    visitor.attr("aFloor", a_floor);
    visitor.attr("rawSteps", raw_steps);
    visitor.attr("chunkSize", chunk_size);
    visitor.choice("mode", mode, "chunked|recurrent");
  }

  bool keeps() const { return kept_states::fit(states, d_state()); }
  bool chunked() const { return mode == 0 || states || outputs; }
  bool mimo() const { return B.rank == 4; }
  int64_t rank() const { return mimo() ? B[1] : 1; }
  int64_t ngroups() const { return B[B.rank - 2]; }
  int64_t d_state() const { return B[B.rank - 1]; }
  int64_t angle_count() const { return angle_state[2]; }

  void check() const {
    auto fail = [](Code code, const std::string& what) { throw Error(code, "mamba3: " + what); };
    if (ngroups() == 0 || x[1] % ngroups() != 0)
      fail(Code::kShape, "nheads " + std::to_string(x[1]) + " is no multiple of ngroups " + std::to_string(ngroups()));
    if (2 * angle_count() > d_state() || (mimo() && angle_count() > d_state() / 2))
      fail(Code::kShape,
           "d_state " + std::to_string(d_state()) + " has no " + std::to_string(angle_count()) + " pairs to rotate");
    const int ranks = 3 + mimo();
    if (C.rank != ranks || B_bias.rank != ranks - 1 || C_bias.rank != ranks - 1 || k_state.rank != ranks)
      fail(Code::kShape, "B, C, BBias, CBias and k must all have a rank or none");
    if (mimo() != bool(mimo_x) || mimo() != bool(mimo_o) || (mimo() && z) != bool(mimo_z))
      fail(Code::kArgument, "mimoX and mimoO, and with z mimoZ, go with B and C that have a rank");
    if (outputs && outputs.rank != ranks) fail(Code::kShape, "outputs must have a rank where B has one");
    kept_states::check(kName, states);
    if (chunk_size < 1) fail(Code::kArgument, "chunkSize: expected at least 1, received " + std::to_string(chunk_size));
  }
};

// With S'_t = S_t + (1 - tau_{t+1}) dt_{t+1} Σ_r v_r k_rᵀ, the state and what the next token adds of this one, it is
// S'_t = α S'_{t-1} + w_t Σ_r v_r k_rᵀ, w_t = tau dt + (1 - tau_{t+1}) dt_{t+1}, whose gradient is that of SSD: λ_t =
// g_t c_tᵀ + α_{t+1} λ_{t+1}. From there to steps, angles (a sum over all later tokens), rotations, norm and gate.
// `angle`, `ssm`, `k` and `v` are the states before the first token, dlastAngle … the gradients of those behind the
// last.
struct Mamba3Backward {
  static constexpr const char* kName = "mamba3Backward";
  using GradientOf = Mamba3;
  static constexpr int64_t kMostRanks = 64;
  Tensor x, B, C, dt, adt, trap, angles, B_bias, C_bias, D, z, dt_bias, mimo_x, mimo_z, mimo_o, norm_weight;
  Tensor cu_seqlens, angle_state, ssm_state, k_state, v_state, states, outputs;
  Tensor dy, dlast_angle, dlast_ssm, dlast_k, dlast_v;
  Tensor dx, dB, dC, ddt, dadt, dtrap, dangles, dB_bias, dC_bias, dD, dz, ddt_bias, dmimo_x, dmimo_z, dmimo_o;
  Tensor dnorm_weight, dangle_state, dssm_state, dk_state, dv_state;
  float norm_eps = 1e-5f, a_floor = 1e-4f;
  bool raw_steps = false;

  template <class V>
  void fields(V& visitor) {
    visitor.in("x", x, "tokens nheads headdim");
    visitor.in("B", B, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.in("C", C, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.in("dt", dt, "tokens nheads");
    visitor.in("adt", adt, "tokens nheads");
    visitor.in("trap", trap, "tokens nheads");
    visitor.in("angles", angles, "tokens angles | tokens nheads angles");
    visitor.in("BBias", B_bias, "nheads d_state | nheads rank d_state");
    visitor.in("CBias", C_bias, "nheads d_state | nheads rank d_state");
    visitor.optional("D", D, "nheads");
    visitor.optional("z", z, "tokens nheads headdim");
    visitor.optional("dtBias", dt_bias, "nheads");
    visitor.optional("mimoX", mimo_x, "nheads rank headdim");
    visitor.optional("mimoZ", mimo_z, "nheads rank headdim");
    visitor.optional("mimoO", mimo_o, "nheads rank headdim");
    visitor.optional("normWeight", norm_weight, "nheads headdim");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("angle", angle_state, "sequences nheads angles");
    visitor.optional("ssm", ssm_state, "sequences nheads headdim d_state");
    visitor.optional("k", k_state, "sequences nheads d_state | sequences rank nheads d_state");
    visitor.optional("v", v_state, "sequences nheads headdim");
    visitor.optional("states", states, "tokens 2 nheads headdim");
    visitor.optional("outputs", outputs, "tokens rank nheads headdim | tokens nheads headdim");
    visitor.in("dy", dy, "tokens nheads headdim");
    visitor.optional("dlastAngle", dlast_angle, "sequences nheads angles");
    visitor.optional("dlastSsm", dlast_ssm, "sequences nheads headdim d_state");
    visitor.optional("dlastK", dlast_k, "sequences nheads d_state | sequences rank nheads d_state");
    visitor.optional("dlastV", dlast_v, "sequences nheads headdim");
    visitor.wanted("dx", dx, "tokens nheads headdim");
    visitor.wanted("dB", dB, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.wanted("dC", dC, "tokens ngroups d_state | tokens rank ngroups d_state");
    visitor.wanted("ddt", ddt, "tokens nheads");
    visitor.wanted("dadt", dadt, "tokens nheads");
    visitor.wanted("dtrap", dtrap, "tokens nheads");
    visitor.wanted("dangles", dangles, "tokens angles | tokens nheads angles");
    visitor.wanted("dBBias", dB_bias, "nheads d_state | nheads rank d_state");
    visitor.wanted("dCBias", dC_bias, "nheads d_state | nheads rank d_state");
    visitor.wanted("dD", dD, "nheads");
    visitor.wanted("dz", dz, "tokens nheads headdim");
    visitor.wanted("ddtBias", ddt_bias, "nheads");
    visitor.wanted("dmimoX", dmimo_x, "nheads rank headdim");
    visitor.wanted("dmimoZ", dmimo_z, "nheads rank headdim");
    visitor.wanted("dmimoO", dmimo_o, "nheads rank headdim");
    visitor.wanted("dnormWeight", dnorm_weight, "nheads headdim");
    visitor.wanted("dangle", dangle_state, "sequences nheads angles");
    visitor.wanted("dssm", dssm_state, "sequences nheads headdim d_state");
    visitor.wanted("dk", dk_state, "sequences nheads d_state | sequences rank nheads d_state");
    visitor.wanted("dv", dv_state, "sequences nheads headdim");
    visitor.attr("normEps", norm_eps);
    visitor.attr("aFloor", a_floor);
    visitor.attr("rawSteps", raw_steps);
  }

  // The forward that this is the gradient of, its states as shapes alone.
  Mamba3 forward() const {
    Mamba3 op;
    op.x = x, op.B = B, op.C = C, op.dt = dt, op.adt = adt, op.trap = trap, op.angles = angles;
    op.B_bias = B_bias, op.C_bias = C_bias, op.D = D, op.z = z, op.dt_bias = dt_bias;
    op.mimo_x = mimo_x, op.mimo_z = mimo_z, op.mimo_o = mimo_o, op.norm_weight = norm_weight;
    op.states = states, op.outputs = outputs;
    op.norm_eps = norm_eps, op.a_floor = a_floor, op.raw_steps = raw_steps;
    op.angle_state.rank = 3, op.angle_state.shape[2] = angles[angles.rank - 1];
    op.k_state.rank = B.rank;
    return op;
  }

  void check() const {
    const Mamba3 op = forward();
    op.check();
    auto fail = [](Code code, const std::string& what) { throw Error(code, "mamba3Backward: " + what); };
    if (op.rank() > kMostRanks)
      fail(Code::kShape, "at most " + std::to_string(kMostRanks) + " ranks, not " + std::to_string(op.rank()));
    for (const Tensor* k : {&k_state, &dlast_k, &dk_state})
      if (*k && k->rank != B.rank) fail(Code::kShape, "k, dlastK and dk must have a rank where B has one");
    for (const Tensor* given : {&dB, &dC})
      if (*given && given->rank != B.rank) fail(Code::kShape, "dB and dC must have the shape of B and C");
    for (const Tensor* given : {&dB_bias, &dC_bias})
      if (*given && given->rank != B_bias.rank) fail(Code::kShape, "dBBias and dCBias must have the shape of BBias");
    if (dangles && dangles.rank != angles.rank) fail(Code::kShape, "dangles must have the shape of angles");
    if (bool(k_state) != bool(v_state)) fail(Code::kArgument, "k and v belong together");
  }
};

}  // namespace statespace
