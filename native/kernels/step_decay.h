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

// The same of e^x, for x up to 88.8: exp() of AVX-512, of degree 2, leans by 2e-8; there e^r is its series, to 6e-10.
#if defined(STATESPACE_ISA_AVX512)
inline F natural_step_decay(F given) {
  constexpr float kRest[] = {1.f, 0.5f, 1 / 6.f};
  const Table parts = load_table(kStepParts.v);
  const F x = min(set(88.8f), max(set(-88.f), given));
  F n;
  const F part = lookup_nearest(parts, x, set(1.44269504f), &n);
  F r = fnma(n, set(0.693359375f), x);
  r = fma(n, set(2.12194440e-4f), r);
  return scale2(fma(part * r, polynomial(r, kRest), part), n);
}
#else
inline F natural_step_decay(F x) { return exp(x); }
#endif

// out = e^in; out has room for whole vectors.
inline void decay_row(const float* in, float* out, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes)
    store(out + i, natural_step_decay(n - i < kLanes ? load(in + i, int(n - i)) : load(in + i)));
}

inline float decay_of(float x) {
  alignas(64) float lanes[kLanes];
  store(lanes, natural_step_decay(set(x)));
  return lanes[0];
}

}  // namespace statespace::STATESPACE_ISA
