#include "ops/gate.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Gate& op, Context& cx) {
  const int64_t channels = op.x[1];
  const F high = set(op.limit > 0 ? op.limit : __builtin_inff()), low = zero() - high;
  with_activation(op.activation, [&](auto act) {
    for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const float *x = op.x.row(r), *gate = op.gate.row(r);
        float* y = op.y.row(r);
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int m = lanes_of(channels - c);
          store(y + c, act(min(high, load(gate + c, m))) * max(low, min(high, load(x + c, m))), m);
        }
      }
    });
  });
}

}  // namespace statespace::STATESPACE_ISA
