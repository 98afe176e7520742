#pragma once
// Depthwise causal convolution over time: y_t = act(Σ_j weight[:, j] x_{t-K+1+j} + bias), K = d_conv.
// The state holds the last K-1 inputs of each sequence, oldest first; it is read before and written after.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct CausalConv1d {
  static constexpr const char* kName = "causalConv1d";
  Tensor x, weight, bias, cu_seqlens, slots, state, y;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels", kHostFloats);
    v.in("weight", weight, "channels d_conv");
    v.optional("bias", bias, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels d_conv-1");
    v.out("y", y, "tokens channels");
    v.choice("activation", activation, "none|silu");
  }

  void check() const {
    if (state[2] != weight[1] - 1)
      throw Error(Code::kShape,
                  "causalConv1d: state must hold d_conv - 1 = " + std::to_string(weight[1] - 1) + " inputs a channel");
  }
};

// With pre the sum before the activation and g = dy · act'(pre), over the inputs f = [initialState, x] of a sequence:
//   df_s = Σ_j weight_j g_{s-j}, and dfinalState on its last d_conv - 1;   dweight_j = Σ_t g_t f_{t+j};   dbias = Σ g
struct CausalConv1dBackward {
  static constexpr const char* kName = "causalConv1dBackward";
  using GradientOf = CausalConv1d;
  Tensor x, weight, bias, cu_seqlens, initial_state, dy, dfinal_state, dx, dweight, dbias, dinitial_state;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens channels");
    v.in("weight", weight, "channels d_conv");
    v.optional("bias", bias, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.optional("initialState", initial_state, "sequences channels past");
    v.in("dy", dy, "tokens channels");
    v.optional("dfinalState", dfinal_state, "sequences channels past");
    v.wanted("dx", dx, "tokens channels");
    v.wanted("dweight", dweight, "channels d_conv");
    v.wanted("dbias", dbias, "channels");
    v.wanted("dinitialState", dinitial_state, "sequences channels past");
    v.choice("activation", activation, "none|silu");
  }

  void check() const {
    for (const Tensor* state : {&initial_state, &dfinal_state, &dinitial_state})
      if (*state && (*state)[2] != weight[1] - 1)
        throw Error(Code::kShape, "causalConv1dBackward: states must hold d_conv - 1 = " +
                                      std::to_string(weight[1] - 1) + " inputs a channel");
  }
};

}  // namespace statespace
