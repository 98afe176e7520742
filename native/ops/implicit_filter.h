#pragma once
// Hyena's implicit filter (Poli et al. 2023, section 3.3): a small network of the position gives the taps of a long
// convolution,
//   h = sin(freq·(Win z + bin));   h = sin(freq·(Whidden h + bhidden)), once for every inner layer
//   kernel[l] = (Wout h) · (exp(-t_l |deltas|) + shift)
// z (l) is the encoding of position l and t_l its time in [0, 1]. Without deltas the taps are not windowed.
#include "core/fields.h"

namespace statespace {

struct ImplicitFilter {
  static constexpr const char* kName = "implicitFilter";
  Tensor z, t, in_weight, in_bias, hidden_weight, hidden_bias, out_weight, freq, deltas, kernel;
  float shift = 0;

  template <class V>
  void fields(V& v) {
    v.in("z", z, "kernel_len emb_dim");
    v.in("t", t, "kernel_len");
    v.in("inWeight", in_weight, "width emb_dim");
    v.in("inBias", in_bias, "width");
    v.optional("hiddenWeight", hidden_weight, "inner width width");
    v.optional("hiddenBias", hidden_bias, "inner width");
    v.in("outWeight", out_weight, "channels width");
    v.in("freq", freq, "width");
    v.optional("deltas", deltas, "channels");
    v.out("kernel", kernel, "kernel_len channels");
    v.attr("shift", shift);
  }
};

// With p = W h + b and h = sin(freq·p) of each layer, w the window and y = Wout h of the last:
//   dy = w dkernel;   dh = Woutᵀ dy;   dp = freq cos(freq·p) dh,   dfreq = Σ_l p cos(freq·p) dh of every layer
//   ddeltas = -sign(deltas) Σ_l t e^{-t|deltas|} y dkernel,   dt = -Σ_c |deltas| e^{-t|deltas|} y dkernel
struct ImplicitFilterBackward {
  static constexpr const char* kName = "implicitFilterBackward";
  using GradientOf = ImplicitFilter;
  Tensor z, t, in_weight, in_bias, hidden_weight, hidden_bias, out_weight, freq, deltas, dkernel;
  Tensor dz, dt, din_weight, din_bias, dhidden_weight, dhidden_bias, dout_weight, dfreq, ddeltas;
  float shift = 0;

  template <class V>
  void fields(V& v) {
    v.in("z", z, "kernel_len emb_dim");
    v.in("t", t, "kernel_len");
    v.in("inWeight", in_weight, "width emb_dim");
    v.in("inBias", in_bias, "width");
    v.optional("hiddenWeight", hidden_weight, "inner width width");
    v.optional("hiddenBias", hidden_bias, "inner width");
    v.in("outWeight", out_weight, "channels width");
    v.in("freq", freq, "width");
    v.optional("deltas", deltas, "channels");
    v.in("dkernel", dkernel, "kernel_len channels");
    v.wanted("dz", dz, "kernel_len emb_dim");
    v.wanted("dt", dt, "kernel_len");
    v.wanted("dinWeight", din_weight, "width emb_dim");
    v.wanted("dinBias", din_bias, "width");
    v.wanted("dhiddenWeight", dhidden_weight, "inner width width");
    v.wanted("dhiddenBias", dhidden_bias, "inner width");
    v.wanted("doutWeight", dout_weight, "channels width");
    v.wanted("dfreq", dfreq, "width");
    v.wanted("ddeltas", ddeltas, "channels");
    v.attr("shift", shift);
  }
};

}  // namespace statespace
