#pragma once
// The gated short convolution of LFM2 (Liquid AI, 2025): y = c ∘ conv(b ∘ x), conv depthwise and causal,
// conv(u)_t = Σ_j weight[:, j] u_{t-K+1+j} + bias, K = d_conv.
// The state holds the last K-1 products b ∘ x of each sequence, oldest first; it is read before and written after.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct ShortConv {
  static constexpr const char* kName = "shortConv";
  Tensor b, c, x, weight, bias, cu_seqlens, slots, state, y;

  template <class V>
  void fields(V& v) {
    v.in("b", b, "tokens channels");
    v.in("c", c, "tokens channels");
    v.in("x", x, "tokens channels");
    v.in("weight", weight, "channels d_conv");
    v.optional("bias", bias, "channels");
    v.runtime("cuSeqlens", cu_seqlens, "bounds");
    v.runtime("slots", slots, "sequences");
    v.state("state", state, "pool channels d_conv-1");
    v.out("y", y, "tokens channels");
  }

  void check() const {
    if (state[2] != weight[1] - 1)
      throw Error(Code::kShape,
                  "shortConv: state must hold d_conv - 1 = " + std::to_string(weight[1] - 1) + " inputs a channel");
  }
};

}  // namespace statespace
