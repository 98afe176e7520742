#pragma once
// RWKV-4's attention (Peng et al. 2023), per channel, with w = -exp(timeDecay), u = timeFirst:
//   y_t = (num + e^{u + k_t} v_t) / (den + e^{u + k_t}),   num = e^w num + e^{k_t} v_t,   den = e^w den + e^{k_t}
// The state's rows are num, den and the exponent p that both are divided by (e^p · num is the sum above), so that no k
// is too large. A new sequence starts at num = den = 0, p = -1e38; from p = 0 it would lose a first k below -87.
#include "core/fields.h"

namespace statespace {

struct Wkv4 {
  static constexpr const char* kName = "wkv4";
  Tensor k, v, time_decay, time_first, cu_seqlens, slots, state, y;

  template <class V>
  void fields(V& visitor) {
    visitor.in("k", k, "tokens channels");
    visitor.in("v", v, "tokens channels");
    visitor.in("timeDecay", time_decay, "channels");
    visitor.in("timeFirst", time_first, "channels");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.runtime("slots", slots, "sequences");
    visitor.state("state", state, "pool 3 channels");
    visitor.out("y", y, "tokens channels");
  }
};

// Backwards in time, n and d the gradients of num and den behind a token, E = e^{u+k}, Q = den + E, g = dy / Q:
//   dv = E g + e^k n,   dtimeFirst = Σ E g (v - y),   dk = E g (v - y) + e^k (v n + d);   then n = ρ n + g, d = ρ d - g
//   y dtimeDecay = -e^{timeDecay} ρ Σ (n num + d den),   ρ = e^w
// The exponent that num and den are divided by has no gradient of its own but through them.
struct Wkv4Backward {
  static constexpr const char* kName = "wkv4Backward";
  using GradientOf = Wkv4;
  Tensor k, v, time_decay, time_first, cu_seqlens, initial_state, dy;
  Tensor dk, dv, dtime_decay, dtime_first, dinitial_state;

  template <class V>
  void fields(V& visitor) {
    visitor.in("k", k, "tokens channels");
    visitor.in("v", v, "tokens channels");
    visitor.in("timeDecay", time_decay, "channels");
    visitor.in("timeFirst", time_first, "channels");
    visitor.runtime("cuSeqlens", cu_seqlens, "bounds");
    visitor.optional("initialState", initial_state, "sequences 3 channels");
    visitor.in("dy", dy, "tokens channels");
    visitor.wanted("dk", dk, "tokens channels");
    visitor.wanted("dv", dv, "tokens channels");
    visitor.wanted("dtimeDecay", dtime_decay, "channels");
    visitor.wanted("dtimeFirst", dtime_first, "channels");
    visitor.wanted("dinitialState", dinitial_state, "sequences 3 channels");
  }
};

}  // namespace statespace
