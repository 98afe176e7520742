#pragma once
// A rate of decay that a step of 0 can be multiplied with.
#include <algorithm>
#include <cfloat>

#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// A, no further below 0 than a float reaches: a step of 0 keeps the state, and 0 · -∞ would be NaN.
inline float finite_rate(float A) { return std::max(A, -FLT_MAX); }
inline F finite_rate(F A) { return max(set(-FLT_MAX), A); }

}  // namespace statespace::STATESPACE_ISA
