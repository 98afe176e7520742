#include "ops/activate.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/activation_gradients.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Activate& op, Context& cx) {
  const int64_t channels = op.x[1];
  with_activation(op.activation, [&](auto act) {
    for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const float* x = op.x.row(r);
        float* y = op.y.row(r);
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int m = lanes_of(channels - c);
          store(y + c, act(load(x + c, m)), m);
        }
      }
    });
  });
}

template <>
void run(const ActivateBackward& op, Context& cx) {
  if (!op.dx) return;
  const int64_t channels = op.x[1];
  with_activation_gradient(op.activation, [&](auto, auto gradient) {
    for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const float *x = op.x.row(r), *dy = op.dy.row(r);
        float* dx = op.dx.row(r);
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int m = lanes_of(channels - c);
          store(dx + c, load(dy + c, m) * gradient(load(x + c, m)), m);
        }
      }
    });
  });
}

}  // namespace statespace::STATESPACE_ISA
