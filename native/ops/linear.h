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

// With dp = dy · act'(x·weightᵀ + bias), which takes the product again, or dp = dy without an activation:
//   dx = dp·weight,   dweight = dpᵀ·x,   dbias = Σ_t dp
// dy is the residual's gradient as it stands. accumulate adds dweight and dbias to what is there.
// Both products are those of f32, whatever the types of x and the weight.
struct LinearBackward {
  static constexpr const char* kName = "linearBackward";
  static constexpr const char* kPassesOn = "residual";
  using GradientOf = Linear;
  Tensor x, weight, bias, dy, dx, dweight, dbias;
  int32_t activation = 0;
  bool accumulate = false;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens in_features", kFloats);
    v.in("weight", weight, "out_features in_features", kWeights);
    v.optional("bias", bias, "out_features");
    v.in("dy", dy, "tokens out_features");
    v.wanted("dx", dx, "tokens in_features");
    v.wanted("dweight", dweight, "out_features in_features");
    v.wanted("dbias", dbias, "out_features");
    v.choice("activation", activation, kActivations);
    v.attr("accumulate", accumulate);
  }
};

}  // namespace statespace
