#pragma once
// Mamba-2's state space duality (Dao & Gu 2024). Per head h, with dt = clamp(softplus(dt + dtBias), dtMin, dtMax):
//   S_t = exp(dt_t·A_h) S_{t-1} + dt_t x_t B_tᵀ        (headdim, d_state)
//   y_t = (S_t C_t + D x_t) · silu(z_t)                (D and z optional)
// Head h reads B and C of group h / (nheads / ngroups). All modes compute this function:
//   recurrent  step by step
//   chunked    products inside chunks and a scan between them: the fast form of a prefill
//   quadratic  y_t = Σ_{s≤t} C_t·B_s exp(Σ_{s<i≤t} dt_i A) dt_s x_s over whole sequences, in tiles: the attention form
// chunkSize bounds the chunks; a kernel may take shorter ones. With x, B and C in bf16, chunked may round the operands
// of its products to bf16 (relative error some 2e-3); sums and states are f32.
// `states` (kept_states.h), rows of headdim values, one a state, are kept by products of f32 in chunks, whatever the
// mode.
#include "core/error.h"
#include "core/fields.h"
#include "ops/kept_states.h"

namespace statespace {

struct Ssd {
  static constexpr const char* kName = "ssd";
  Tensor x, dt, A, B, C, D, z, dt_bias, cu_seqlens, slots, state, y, states;
  bool dt_softplus = false;
  float dt_min = 0;
  float dt_max = __builtin_inff();
  int64_t chunk_size = 256;
  int32_t mode = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens nheads headdim", kFloats);
    v.in("dt", dt, "tokens nheads");
    v.in("A", A, "nheads");
    v.in("B", B, "tokens ngroups d_state", kFloats);
    v.in("C", C, "tokens ngroups d_state", kFloats);
    v.optional("D", D, "nheads | nheads headdim");
    v.optional("z", z, "tokens nheads headdim");
    v.optional("dtBias", dt_bias, "nheads");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool nheads headdim d_state");
    v.out("y", y, "tokens nheads headdim");
    v.wanted("states", states, "tokens 2 nheads headdim");
    v.attr("dtSoftplus", dt_softplus);
    v.attr("dtMin", dt_min);
    v.attr("dtMax", dt_max);
    v.attr("chunkSize", chunk_size);
    v.choice("mode", mode, "chunked|recurrent|quadratic");
  }

  bool keeps() const { return kept_states::fit(states, B[2]); }

  void check() const {
    kept_states::check(kName, states);
    if (B[1] == 0 || x[1] % B[1] != 0)
      throw Error(Code::kShape,
                  "ssd: nheads " + std::to_string(x[1]) + " is no multiple of ngroups " + std::to_string(B[1]));
    if (chunk_size < 1)
      throw Error(Code::kArgument, "ssd: chunkSize: expected at least 1, received " + std::to_string(chunk_size));
  }
};

// With g = dy · silu(z), a_t = exp(dt_t·A), G_t = g_t C_tᵀ + a_{t+1} G_{t+1} and q = a_t⟨G_t, S_{t-1}⟩:
//   dx = D g + dt G B,   dB = dt Gᵀx,   dC = Sᵀg,   dA = Σ dt q,   ddt = ⟨G, x Bᵀ⟩ + A q,   dinitialState = a_1 G_1
// ddt passes the clamp where dtMin <= dt <= dtMax, both included. The states at chunks' starts are the forward's,
// or, without its `states`, computed again.
struct SsdBackward {
  static constexpr const char* kName = "ssdBackward";
  using GradientOf = Ssd;
  Tensor x, dt, A, B, C, D, z, dt_bias, cu_seqlens, initial_state, states, dy, dlast_state;
  Tensor dx, ddt, dA, dB, dC, dD, dz, ddt_bias, dinitial_state;
  bool dt_softplus = false;
  float dt_min = 0;
  float dt_max = __builtin_inff();

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens nheads headdim");
    v.in("dt", dt, "tokens nheads");
    v.in("A", A, "nheads");
    v.in("B", B, "tokens ngroups d_state");
    v.in("C", C, "tokens ngroups d_state");
    v.optional("D", D, "nheads | nheads headdim");
    v.optional("z", z, "tokens nheads headdim");
    v.optional("dtBias", dt_bias, "nheads");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.optional("initialState", initial_state, "sequences nheads headdim d_state");
    v.optional("states", states, "tokens 2 nheads headdim");
    v.in("dy", dy, "tokens nheads headdim");
    v.optional("dlastState", dlast_state, "sequences nheads headdim d_state");
    v.wanted("dx", dx, "tokens nheads headdim");
    v.wanted("ddt", ddt, "tokens nheads");
    v.wanted("dA", dA, "nheads");
    v.wanted("dB", dB, "tokens ngroups d_state");
    v.wanted("dC", dC, "tokens ngroups d_state");
    v.wanted("dD", dD, "nheads | nheads headdim");
    v.wanted("dz", dz, "tokens nheads headdim");
    v.wanted("ddtBias", ddt_bias, "nheads");
    v.wanted("dinitialState", dinitial_state, "sequences nheads headdim d_state");
    v.attr("dtSoftplus", dt_softplus);
    v.attr("dtMin", dt_min);
    v.attr("dtMax", dt_max);
  }

  bool kept() const { return kept_states::fit(states, B[2]); }

  void check() const {
    kept_states::check(kName, states);
    if (B[1] == 0 || x[1] % B[1] != 0)
      throw Error(Code::kShape,
                  "ssdBackward: nheads " + std::to_string(x[1]) + " is no multiple of ngroups " + std::to_string(B[1]));
  }
};

enum class SsdMode { chunked, recurrent, quadratic };

}  // namespace statespace
