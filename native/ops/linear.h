#pragma once
// y = act(x·weightᵀ + bias) + residual. The weight is (out_features, in_features), of any dtype, as rows or packed by
// the backend (Backend::pack).
#include "core/fields.h"
#include "ops/activations.h"

namespace statespace {

struct Linear {
  static constexpr const char* kName = "linear";
  Tensor x, weight, bias, residual, y;
  int32_t activation = 0;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens in_features", kFloats);
    v.in("weight", weight, "out_features in_features", kWeights);
    v.optional("bias", bias, "out_features");
    v.optional("residual", residual, "tokens out_features");
    v.out("y", y, "tokens out_features");
    v.choice("activation", activation, kActivations);
  }
};

}  // namespace statespace
