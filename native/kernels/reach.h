#pragma once
// Values that are not finite in a convolution by transforms, which would carry them to every output of their channel.
// They are left out of the transforms, and the outputs that the sum itself would give them to become NaN.
#include <cfloat>
#include <cmath>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

inline bool is_finite(float x) { return x >= -FLT_MAX && x <= FLT_MAX; }
inline M is_finite(F x) { return less(abs(x), set(HUGE_VALF)); }
inline F finite_or_zero(F x) { return select(is_finite(x), x, zero()); }

// What reaches the outputs of kLanes channels, asked for one after the other.
class Reach {
 public:
  // `before`: for how many outputs from here on an earlier input is read; first_tap: the first tap that is not finite,
  // or any number beyond the last one.
  Reach(int64_t taps, F before, F first_tap) : taps_(set(float(taps))), left_(before), first_tap_(first_tap) {}
  // y, or NaN; x: the input at y's place t in the sequence. Counts beyond 2^24 stand still, which is as good.
  F operator()(int64_t t, F x, F y) {
    left_ = select(is_finite(x), left_ - set(1), taps_);
    const F past = select(less(set(float(t)), first_tap_), y, set(NAN));
    return select(less(zero(), left_), set(NAN), past);
  }

 private:
  F taps_, left_, first_tap_;
};

}  // namespace statespace::STATESPACE_ISA
