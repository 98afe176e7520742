// SSD step by step, and the choice of a form.
#include "runtime.h"
#include "ssd.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kLaneStates = 8;  // of a lane, in registers

// One row of a head's state a warp, states across its lanes; more states than these hold are taken in turn.
__global__ void __launch_bounds__(kThreads) ssd_steps(SsdArgs a) {
  const int s = int(blockIdx.x) / a.nheads, head = int(blockIdx.x) % a.nheads;
  const int row = int(blockIdx.y) * kWarps + warp(), p = smaller(row, a.headdim - 1);
  const bool active = row < a.headdim;
  const int64_t group = int64_t(a.group(head)) * a.d_state;
  const global<float> state = a.state[a.sequences.slot(s)] + head * a.state_size() + int64_t(p) * a.d_state;
  for (int n0 = lane(); n0 - lane() < a.d_state; n0 += 32 * kLaneStates) {
    float h[kLaneStates];
#pragma unroll
    for (int i = 0; i < kLaneStates; ++i) h[i] = n0 + 32 * i < a.d_state ? state[n0 + 32 * i] : 0;
    const bool first = n0 < 32, last = n0 - lane() + 32 * kLaneStates >= a.d_state;
    for (int t = a.sequences.begin(s); t < a.sequences.end(s); ++t) {
      const float dt = a.step(t, head), decay = expf(float(a.log_decay(dt, head))),
                  dx = dt * a.x(t, int64_t(head) * a.headdim + p);
      float out = 0;
#pragma unroll
      for (int i = 0; i < kLaneStates; ++i) {
        const int n = n0 + 32 * i;
        if (n < a.d_state) {
          h[i] = decay * h[i] + dx * a.B(t, group + n);
          out += h[i] * a.C(t, group + n);
        }
      }
#pragma unroll
      for (int mask = 16; mask > 0; mask /= 2) out += shuffle_xor(out, mask);
      if (active && lane() == 0) {
        const global<float> y = a.y[t] + (int64_t(head) * a.headdim + p);
        if (!first) out += *y;
        if (last)
          a.store(t, head, p, out);
        else
          *y = out;
      }
    }
#pragma unroll
    for (int i = 0; i < kLaneStates; ++i)
      if (active && n0 + 32 * i < a.d_state) state[n0 + 32 * i] = h[i];
  }
}

}  // namespace

template <>
void run(const Ssd& op) {
  SsdArgs args(op);
  if (args.sequences.tokens == 0 || args.nheads == 0 || args.headdim == 0) return;
  constexpr int kTile = 64, kFew = 16;  // tokens a sequence that are faster step by step
  args.chunk = int(smaller<int64_t>(op.chunk_size, kTile));
  // f16 and bf16 are TF32 values as they are.
  const bool exact = op.x.dtype != DType::f32 && op.B.dtype != DType::f32 && op.C.dtype != DType::f32;
  const SsdMode mode = static_cast<SsdMode>(op.mode);
  if (mode == SsdMode::quadratic) return ssd_quadratic(args, exact);
  if (mode == SsdMode::chunked && args.sequences.tokens > kFew * args.sequences.count) return ssd_chunked(args, exact);
  launch(ssd_steps, {int64_t(args.sequences.count) * args.nheads, ceil_div(args.headdim, kWarps)}, kThreads, args);
}

}  // namespace statespace::cuda
