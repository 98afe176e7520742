#pragma once
// y = (x - mean) / sqrt(var + eps) · weight + bias (Ba et al. 2016), over groups of `groupSize` channels (0: all),
// which makes it the group norm over heads of RWKV and RetNet. y may be x.
#include "core/error.h"
#include "core/fields.h"

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

  void check() const {
    if (group_size < 0 || (group_size > 0 && x[1] % group_size != 0))
      throw Error(Code::kShape, "layerNorm: " + std::to_string(x[1]) + " channels are no multiple of groupSize " +
                                    std::to_string(group_size));
  }
};

}  // namespace statespace
