#include "ops/rms_norm.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/streamed.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One group of n channels of x (rows, channels) and z. y may be x or z: each value is written after its last reading.
void norm_group(const RmsNorm& op, const Tensor& rows_x, const Tensor& rows_z, int64_t row, int64_t first, int64_t n,
                bool streamed) {
  const float* x = rows_x.row(row) + first;
  const float* z = rows_z ? rows_z.row(row) + first : nullptr;
  const float* weight = op.weight ? op.weight.f32() + first : nullptr;
  const float* bias = op.bias ? op.bias.f32() + first : nullptr;
  float* y = op.y.row(row) + first;
  const int64_t next_x = rows_x.row_stride, next_z = rows_z.row_stride;
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
    put(y + c, v, m, streamed);
  }
}

}  // namespace

template <>
void run(const RmsNorm& op, Context& cx) {
  const int64_t channels = op.x[1], group = op.group_size ? op.group_size : channels;
  const bool halves = op.x.dtype != DType::f32 || (op.z && op.z.dtype != DType::f32);
  const bool gate_first = op.z && !op.norm_before_gate;  // what is normalised then waits in y
  const bool streamed = !gate_first && streams_result(op.y, {&op.x, &op.z}, group);
  for_row_blocks(cx, op.x[0], channels, [&](int64_t begin, int64_t end, int worker) {
    float* own = halves ? cx.local<float>(worker, 2 * group) : nullptr;
    for (int64_t r = begin; r < end; ++r)
      for (int64_t c = 0; c < channels; c += group) {
        const Tensor x = floats_of(op.x, r, 1, c, group, own);
        norm_group(op, x, op.z ? floats_of(op.z, r, 1, c, group, own + group) : op.z, r, c, group, streamed);
      }
    if (streamed) end_streams();
  });
}

}  // namespace statespace::STATESPACE_ISA
