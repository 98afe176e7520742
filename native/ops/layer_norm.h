#pragma once
// y = (x - mean) / sqrt(var + eps) · weight + bias (Ba et al. 2016), over groups of `groupSize` channels (0: all),
// which makes it the group norm over heads of RWKV and RetNet. y may be x.
#include "core/fields.h"
#include "ops/groups.h"

namespace statespace {

struct LayerNorm {
  static constexpr const char* kName = "layerNorm";
  Tensor x, weight, bias, y;
  float eps = 1e-5f;
  int64_t group_size = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "rows channels");
    v.optional("weight", weight, "channels");
    v.optional("bias", bias, "channels");
    v.out("y", y, "rows channels");
    v.attr("eps", eps);
    v.attr("groupSize", group_size);
  }

  void check() const { check_group_size(kName, x, group_size); }
};

// Per group, with x̂ = (x - mean) r and g = dy · weight:
//   dx = r (g - mean(g) - x̂ mean(g x̂)),   dweight = Σ dy x̂,   dbias = Σ dy
struct LayerNormBackward {
  static constexpr const char* kName = "layerNormBackward";
  using GradientOf = LayerNorm;
  Tensor x, weight, dy, dx, dweight, dbias;
  float eps = 1e-5f;
  int64_t group_size = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "rows channels");
    v.optional("weight", weight, "channels");
    v.in("dy", dy, "rows channels");
    v.wanted("dx", dx, "rows channels");
    v.wanted("dweight", dweight, "channels");
    v.wanted("dbias", dbias, "channels");
    v.attr("eps", eps);
    v.attr("groupSize", group_size);
  }

  void check() const { check_group_size(kName, x, group_size); }
};

}  // namespace statespace
