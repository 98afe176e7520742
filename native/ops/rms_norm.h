#pragma once
// y = x / sqrt(mean(x²) + eps) · weight + bias (Zhang & Sennrich 2019), the mean over groups of `groupSize` channels
// (0: all). unitOffset: weight + 1. With a gate z: norm(x · silu(z)), or norm(x) · silu(z) when normBeforeGate. y may
// be x or z.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct RmsNorm {
  static constexpr const char* kName = "rmsNorm";
  Tensor x, weight, bias, z, y;
  float eps = 1e-5f;
  int64_t group_size = 0;
  bool norm_before_gate = false;
  bool unit_offset = false;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "rows channels");
    v.optional("weight", weight, "channels");
    v.optional("bias", bias, "channels");
    v.optional("z", z, "rows channels");
    v.out("y", y, "rows channels");
    v.attr("eps", eps);
    v.attr("groupSize", group_size);
    v.attr("normBeforeGate", norm_before_gate);
    v.attr("unitOffset", unit_offset);
  }

  void check() const {
    if (group_size < 0 || (group_size > 0 && x[1] % group_size != 0))
      throw Error(Code::kShape, "rmsNorm: " + std::to_string(x[1]) + " channels are no multiple of groupSize " +
                                    std::to_string(group_size));
  }
};

}  // namespace statespace
