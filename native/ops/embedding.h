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

// dweight_i = scale · Σ dy_t over the tokens with id i, in their order; 0 for other rows, or with accumulate what is
// there (a head that shares the weight has written its own).
struct EmbeddingBackward {
  static constexpr const char* kName = "embeddingBackward";
  using GradientOf = Embedding;
  Tensor ids, dy, dweight;
  float scale = 1;
  bool accumulate = false;

  template <class V>
  void fields(V& v) {
    v.runtime("ids", ids, "tokens");
    v.in("dy", dy, "tokens d_model");
    v.wanted("dweight", dweight, "vocab d_model");
    v.attr("scale", scale);
    v.attr("accumulate", accumulate);
  }
};

}  // namespace statespace
