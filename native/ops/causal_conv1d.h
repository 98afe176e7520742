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
    v.in("x", x, "tokens channels");
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

}  // namespace statespace
