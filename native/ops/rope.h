#pragma once
// Rotary position embedding (Su et al. 2021) on the first 2·half values of each head, the rest copied:
// angle = f32(position · invFreq_j), cos and sin times `mscale` (yarn). Rotates the pairs (j, j + half), or (2j, 2j +
// 1) when interleaved. Without positions token t stands at t. y may be x.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct Rope {
  static constexpr const char* kName = "rope";
  Tensor x, positions, inv_freq, y;
  bool interleaved = false;
  float mscale = 1;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "tokens nheads headdim");
    v.runtime("positions", positions, "tokens");
    v.in("invFreq", inv_freq, "half");
    v.out("y", y, "tokens nheads headdim");
    v.attr("interleaved", interleaved);
    v.attr("mscale", mscale);
  }

  void check() const {
    if (2 * inv_freq[0] > x[2])
      throw Error(Code::kShape,
                  "rope: rotaryDim " + std::to_string(2 * inv_freq[0]) + " exceeds headdim " + std::to_string(x[2]));
  }
};

// The rotation backwards: dx is dy rotated by -angle, times mscale; what was copied passes on.
struct RopeBackward {
  static constexpr const char* kName = "ropeBackward";
  using GradientOf = Rope;
  Tensor dy, positions, inv_freq, dx;
  bool interleaved = false;
  float mscale = 1;

  template <class V>
  void fields(V& v) {
    v.in("dy", dy, "tokens nheads headdim");
    v.runtime("positions", positions, "tokens");
    v.in("invFreq", inv_freq, "half");
    v.wanted("dx", dx, "tokens nheads headdim");
    v.attr("interleaved", interleaved);
    v.attr("mscale", mscale);
  }

  void check() const {
    if (2 * inv_freq[0] > dy[2])
      throw Error(Code::kShape, "ropeBackward: rotaryDim " + std::to_string(2 * inv_freq[0]) + " exceeds headdim " +
                                    std::to_string(dy[2]));
  }
};

}  // namespace statespace
