#include "ops/discretize.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rate.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

enum Method { kZoh, kZohEuler, kBilinear };

// (e^a - 1)/a, 1 at a = 0: near 0 by its series, because the difference would cancel.
inline F expm1_ratio(F a) {
  constexpr float kSeries[] = {1.f,       1.f / 2,    1.f / 6,     1.f / 24,    1.f / 120,
                               1.f / 720, 1.f / 5040, 1.f / 40320, 1.f / 362880};
  const M small = less(abs(a), set(0.5f));
  const F safe = select(small, set(1.f), a);
  return select(small, polynomial(a, kSeries), (exp(safe) - set(1.f)) / safe);
}

}  // namespace

template <>
void run(const Discretize& op, Context& cx) {
  const int64_t d_inner = op.delta[1], d_state = op.A[1];
  const bool constant = op.B.rank == 2;
  for_row_blocks(cx, op.delta[0], d_inner * d_state, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t d = 0; d < d_inner; ++d) {
        const F dt = set(op.delta.row(t)[d]);
        const float *A = op.A.row(d), *B = op.B.row(constant ? d : t);
        float *Abar = op.Abar.row(t) + d * d_state, *Bbar = op.Bbar.row(t) + d * d_state;
        for (int64_t n = 0; n < d_state; n += kLanes) {
          const int m = lanes_of(d_state - n);
          // As far as floats reach, of A = -∞ as well: what is wanted then are the limits.
          const F a = dt * finite_rate(load(A + n, m)), dtB = dt * load(B + n, m);
          if (op.method == kBilinear) {
            const F half = finite_rate(set(0.5f) * a), below = set(1.f) - half;
            store(Abar + n, (set(1.f) + half) / below, m);
            store(Bbar + n, dtB / below, m);
          } else {
            store(Abar + n, exp(a), m);
            store(Bbar + n, op.method == kZoh ? dtB * expm1_ratio(a) : dtB, m);
          }
        }
      }
  });
}

}  // namespace statespace::STATESPACE_ISA
