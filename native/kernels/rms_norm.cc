#include "ops/rms_norm.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One group of n channels. y may be x or z: each value is written after its last reading.
void norm_group(const RmsNorm& op, const float* x, const float* z, const float* weight, const float* bias, int64_t n,
                float* y) {
  const int64_t next_x = op.x.row_stride, next_z = z ? op.z.row_stride : 0;
  const bool gate_first = z && !op.norm_before_gate;
  F squares = zero();
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    F v = load(x + c, m);
    prefetch(x + next_x + c);
    if (gate_first) {
      prefetch(z + next_z + c);
      v = v * silu(load(z + c, m));
      store(y + c, v, m);
    }
    squares = fma(v, v, squares);
  }
  const F scale = set(1 / ::sqrtf(sum(squares) / float(n) + op.eps));
  const F offset = set(op.unit_offset ? 1.f : 0.f);
  const float* from = gate_first ? y : x;
  for (int64_t c = 0; c < n; c += kLanes) {
    const int m = lanes_of(n - c);
    F v = load(from + c, m) * scale;
    if (weight) v = v * (load(weight + c, m) + offset);
    if (bias) v = v + load(bias + c, m);
    if (z && !gate_first) v = v * silu(load(z + c, m));
    store(y + c, v, m);
  }
}

}  // namespace

template <>
void run(const RmsNorm& op, Context& cx) {
  const int64_t channels = op.x[1], group = op.group_size ? op.group_size : channels;
  for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; c += group)
        norm_group(op, op.x.row(r) + c, op.z ? op.z.row(r) + c : nullptr, op.weight ? op.weight.f32() + c : nullptr,
                   op.bias ? op.bias.f32() + c : nullptr, group, op.y.row(r) + c);
  });
}

}  // namespace statespace::STATESPACE_ISA
