#pragma once
// 2^x for what a state is multiplied with at every step: none of its error may lean one way where x is near 0, as a
// state that decays slowly gathers it.
#include "isa/math.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_AVX2)
// exp2() of AVX-512 errs by -4e-8 to 6e-8 between -0.01 and 0, which over 1500 steps came to four times what their
// rounding does. Here it is 2e-9, of AVX2 half of what it was: P is 2 over the table's last factor where the table
// ends, so that 2^x meets 1 at 0, and on AVX-512 of degree 3.
inline constexpr Parts kStepParts = parts_of_2(1);
#if defined(STATESPACE_ISA_AVX512)
inline constexpr float kStepRest[] = {0.693146944046f, 0.240215107799f, 0.0561088547111f};
#else
inline constexpr float kStepRest[] = {0.69315117598f, 0.24004121125f, 0.057951316237f};
#endif
inline F step_decay(F x) {
  const Table parts = load_table(kStepParts.v);
  const F y = exp2_range(x), part = lookup(parts, y), rest = table_rest(y);
  return scale2_floor(fma(part * rest, polynomial(rest, kStepRest), part), y);
}
#else
inline F step_decay(F x) { return exp2(x); }
#endif

}  // namespace statespace::STATESPACE_ISA
