#pragma once
// y = x / sqrt(mean(x²) + eps) · weight + bias (Zhang & Sennrich 2019), the mean over groups of `groupSize` channels
// (0: all). unitOffset: weight + 1. With a gate z: norm(x · silu(z)), or norm(x) · silu(z) when normBeforeGate. y may
// be x or z.
#include "core/fields.h"
#include "ops/groups.h"

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
    v.in("x", x, "rows channels", kHostFloats);
    v.optional("weight", weight, "channels");
    v.optional("bias", bias, "channels");
    v.optional("z", z, "rows channels", kHostFloats);
    v.out("y", y, "rows channels");
    v.attr("eps", eps);
    v.attr("groupSize", group_size);
    v.attr("normBeforeGate", norm_before_gate);
    v.attr("unitOffset", unit_offset);
  }

  void check() const { check_group_size(kName, x, group_size); }
};

// Per group, with m = x · silu(z) where the gate comes first and x else, r = 1 / sqrt(mean(m²) + eps), gy what reaches
// the norm's output and g = gy · weight:
//   dm = r (g - m r mean(g m r)),   dweight = Σ gy m r,   dbias = Σ gy
struct RmsNormBackward {
  static constexpr const char* kName = "rmsNormBackward";
  using GradientOf = RmsNorm;
  Tensor x, weight, bias, z, dy, dx, dweight, dbias, dz;
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
    v.in("dy", dy, "rows channels");
    v.wanted("dx", dx, "rows channels");
    v.wanted("dweight", dweight, "channels");
    v.wanted("dbias", dbias, "channels");
    v.wanted("dz", dz, "rows channels");
    v.attr("eps", eps);
    v.attr("groupSize", group_size);
    v.attr("normBeforeGate", norm_before_gate);
    v.attr("unitOffset", unit_offset);
  }

  void check() const { check_group_size(kName, x, group_size); }
};

}  // namespace statespace
