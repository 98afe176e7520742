#pragma once
// The mean over values of (y - target)²; a target that is NaN is none: neither a loss nor one more to divide by. Its
// gradient dy comes in the same pass. divisor divides in place of the number of targets, where one batch is computed in
// parts. The targets are f32, row after row as y's, handed over as their bits.
#include "core/fields.h"

namespace statespace {

struct SquaredError {
  static constexpr const char* kName = "squaredError";
  Tensor y, targets, divisor, loss, dy;

  template <class V>
  void fields(V& v) {
    v.in("y", y, "outputs channels");
    v.runtime("targets", targets, "values");
    v.optional("divisor", divisor, "1");
    v.out("loss", loss, "1");
    v.wanted("dy", dy, "outputs channels");
  }
};

}  // namespace statespace
