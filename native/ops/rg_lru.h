#pragma once
// The real-gated linear recurrent unit of Griffin (De et al. 2024), per channel, with gates of a block of weights a
// head, (in, out), used as x·W:
//   i_t = σ(x_t W_i + b_i),   r_t = σ(x_t W_r + b_r),   log a_t = -8 r_t softplus(recurrentParam)
//   h_t = a_t h_{t-1} + sqrt(1 - a_t²) i_t x_t,         y_t = h_t
// A token at position 0 begins anew, also inside a sequence: h_t = i_t x_t. Without positions none does.
// `gates`, i_t and r_t, are what the gradient takes instead of the two products that made them.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct RgLru {
  static constexpr const char* kName = "rgLru";
  Tensor x, positions, input_weight, input_bias, recurrent_weight, recurrent_bias, recurrent_param;
  Tensor cu_seqlens, slots, state, y, gates;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("positions", positions, "tokens");
    v.in("inputGateWeight", input_weight, "nheads headdim headdim");
    v.in("inputGateBias", input_bias, "nheads headdim");
    v.in("recurrentGateWeight", recurrent_weight, "nheads headdim headdim");
    v.in("recurrentGateBias", recurrent_bias, "nheads headdim");
    v.in("recurrentParam", recurrent_param, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels");
    v.out("y", y, "tokens channels");
    v.wanted("gates", gates, "tokens 2 channels");
  }

  void check() const {
    if (input_weight[0] * input_weight[1] != x[1])
      throw Error(Code::kShape, "rgLru: nheads " + std::to_string(input_weight[0]) + " of headdim " +
                                    std::to_string(input_weight[1]) + " are not " + std::to_string(x[1]) + " channels");
  }
};

// Backwards in time, with a_t = e^{log a_t} and m_t = sqrt(1 - a_t²):
//   λ_t = dy_t + a_{t+1} λ_{t+1},   di_t = λ m x,   dx = λ m i,   dlog a = λ (a h_{t-1} - i x a² / m)
// and, through the sigmoids, the gradients of the gates' weights and more of dx. 1 / m counts as at most 2000, as in
// the reference, where m is next to 0. A token that begins anew has m = 1 and gives nothing to r_t or to the state
// before it. With y and gates of the forward nothing is computed again.
struct RgLruBackward {
  static constexpr const char* kName = "rgLruBackward";
  using GradientOf = RgLru;
  Tensor x, positions, input_weight, input_bias, recurrent_weight, recurrent_bias, recurrent_param;
  Tensor cu_seqlens, initial_state, y, gates, dy, dlast_state;
  Tensor dx, dinput_weight, dinput_bias, drecurrent_weight, drecurrent_bias, drecurrent_param, dinitial_state;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.runtime("positions", positions, "tokens");
    v.in("inputGateWeight", input_weight, "nheads headdim headdim");
    v.in("inputGateBias", input_bias, "nheads headdim");
    v.in("recurrentGateWeight", recurrent_weight, "nheads headdim headdim");
    v.in("recurrentGateBias", recurrent_bias, "nheads headdim");
    v.in("recurrentParam", recurrent_param, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.optional("initialState", initial_state, "sequences channels");
    v.optional("y", y, "tokens channels");
    v.optional("gates", gates, "tokens 2 channels");
    v.in("dy", dy, "tokens channels");
    v.optional("dlastState", dlast_state, "sequences channels");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dinputGateWeight", dinput_weight, "nheads headdim headdim");
    v.wanted("dinputGateBias", dinput_bias, "nheads headdim");
    v.wanted("drecurrentGateWeight", drecurrent_weight, "nheads headdim headdim");
    v.wanted("drecurrentGateBias", drecurrent_bias, "nheads headdim");
    v.wanted("drecurrentParam", drecurrent_param, "channels");
    v.wanted("dinitialState", dinitial_state, "sequences channels");
  }

  void check() const {
    if (input_weight[0] * input_weight[1] != x[1])
      throw Error(Code::kShape, "rgLruBackward: nheads " + std::to_string(input_weight[0]) + " of headdim " +
                                    std::to_string(input_weight[1]) + " are not " + std::to_string(x[1]) + " channels");
  }
};

}  // namespace statespace
