#include "ops/stream_gate.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/head_state.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

namespace {

float root_of(float s) {
  const float magnitude = std::sqrt(std::max(std::fabs(s), 1e-6f));
  return s > 0 ? magnitude : s < 0 ? -magnitude : s * 0;
}

}  // namespace

template <>
void run(const StreamGate& op, Context& cx) {
  const int64_t streams = op.q[1], channels = op.q[2];
  const float scale = 1 / std::sqrt(float(channels));
  for_row_blocks(cx, op.q[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t c = 0; c < streams; ++c) {
        const float *q = op.q.row(t) + c * channels, *k = op.k.row(t) + c * channels, *v = op.v.row(t);
        const F gate = set(1 / (1 + std::exp(-root_of(dot(q, k, channels) * scale))));
        for (int64_t d = 0; d < channels; d += kLanes) {
          const int n = lanes_of(channels - d);
          store(op.y.row(t) + c * channels + d, gate * load(v + d, n), n);
        }
      }
  });
}

template <>
void run(const StreamGateBackward& op, Context& cx) {
  const int64_t streams = op.q[1], channels = op.q[2];
  const float scale = 1 / std::sqrt(float(channels));
  for_row_blocks(cx, op.q[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float* v = op.v.row(t);
      float* dv = op.dv ? op.dv.row(t) : nullptr;
      for (int64_t c = 0; c < streams; ++c) {
        const int64_t first = c * channels;
        const float *q = op.q.row(t) + first, *k = op.k.row(t) + first, *dy = op.dy.row(t) + first;
        const float s = dot(q, k, channels) * scale, root = root_of(s), gate = 1 / (1 + std::exp(-root));
        const float slope = std::fabs(s) < 1e-6f ? 0 : 0.5f / std::fabs(root);
        const F ds = set(dot(v, dy, channels) * gate * (1 - gate) * slope * scale);
        for (int64_t d = 0; d < channels; d += kLanes) {
          const int n = lanes_of(channels - d);
          if (op.dq) store(op.dq.row(t) + first + d, ds * load(k + d, n), n);
          if (op.dk) store(op.dk.row(t) + first + d, ds * load(q + d, n), n);
          if (dv) store(dv + d, fma(set(gate), load(dy + d, n), c ? load(dv + d, n) : zero()), n);
        }
      }
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
