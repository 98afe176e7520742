#pragma once
// y_t = scale · weight[ids[t]]. The weight may be packed: tied models share it with their head.
#include "core/fields.h"

namespace statespace {

struct Embedding {
  static constexpr const char* kName = "embedding";
  Tensor ids, weight, y;
  float scale = 1;

  template <class V>
  void fields(V& v) {
    v.runtime("ids", ids, "tokens");
    v.in("weight", weight, "vocab d_model", kWeights);
    v.out("y", y, "tokens d_model");
    v.attr("scale", scale);
  }
};

}  // namespace statespace
