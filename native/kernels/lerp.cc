#include "ops/lerp.h"

#include "backend/kernels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Lerp& op, Context& cx) {
  const int64_t tokens = op.a[0], channels = op.a[1];
  constexpr int64_t kTokens = 8;
  cx.parallel_for(ceil_div(tokens, kTokens), [&](int64_t i, int) {
    const int64_t end = (i + 1) * kTokens < tokens ? (i + 1) * kTokens : tokens;
    for (int64_t t = i * kTokens; t < end; ++t) {
      const float *a = op.a.row(t), *b = op.b.row(t), *w = op.w.rank == 1 ? op.w.f32() : op.w.row(t);
      float* y = op.y.row(t);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = channels - c < kLanes ? int(channels - c) : kLanes;
        const F from = load(a + c, m);
        store(y + c, fma(load(b + c, m) - from, load(w + c, m), from), m);
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
