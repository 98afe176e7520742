#include "ops/stream_gate.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const StreamGate& op, Context& cx) {
  const int64_t streams = op.q[1], channels = op.q[2];
  const float scale = 1 / std::sqrt(float(channels));
  for_row_blocks(cx, op.q[0], streams * channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t c = 0; c < streams; ++c) {
        const float *q = op.q.row(t) + c * channels, *k = op.k.row(t) + c * channels, *v = op.v.row(t);
        F dot = zero();
        for (int64_t d = 0; d < channels; d += kLanes) {
          const int n = lanes_of(channels - d);
          dot = fma(load(q + d, n), load(k + d, n), dot);
        }
        const float s = sum(dot) * scale, magnitude = std::sqrt(std::max(std::fabs(s), 1e-6f));
        const float root = s > 0 ? magnitude : s < 0 ? -magnitude : s * 0;
        const F gate = set(1 / (1 + std::exp(-root)));
        for (int64_t d = 0; d < channels; d += kLanes) {
          const int n = lanes_of(channels - d);
          store(op.y.row(t) + c * channels + d, gate * load(v + d, n), n);
        }
      }
  });
}

}  // namespace statespace::STATESPACE_ISA
