#include "ops/gate.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/activation_gradients.h"
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

template <>
void run(const GateBackward& op, Context& cx) {
  const int64_t channels = op.x[1];
  const F high = set(op.limit > 0 ? op.limit : __builtin_inff()), low = zero() - high;
  with_activation_gradient(op.activation, [&](auto act, auto gradient) {
    for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const float *x = op.x.row(r), *gate = op.gate.row(r), *dy = op.dy.row(r);
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int m = lanes_of(channels - c);
          const F whole_g = load(gate + c, m), whole_x = load(x + c, m), up = load(dy + c, m);
          const F g = min(high, whole_g), v = max(low, min(high, whole_x));
          const M cut_g = less(high, whole_g), cut_x = less(high, abs(whole_x));
          if (op.dx) store(op.dx.row(r) + c, select(cut_x, zero(), up * act(g)), m);
          if (op.dgate) store(op.dgate.row(r) + c, select(cut_g, zero(), up * v * gradient(g)), m);
        }
      }
    });
  });
}

}  // namespace statespace::STATESPACE_ISA
