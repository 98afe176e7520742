// The gates of all tokens first, a thread a channel of a token; then the recurrence, a thread a channel of a sequence.
#include "elementary.h"
#include "ops/rg_lru.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct RgLruArgs {
  Rows<const float> x, input_weight, recurrent_weight, input_bias, recurrent_bias;
  global<const float> param;
  global<const int32_t> positions;
  global<float> decay, input;  // (tokens, channels): a_t, and what h_t takes in
  Rows<float> state, y;
  Sequences sequences;
  int channels, width;
};

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) rg_lru_gates(RgLruArgs a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), t = int(blockIdx.x);
  if (c >= a.channels) return;
  const int head = c / a.width, j = c % a.width;
  float input = a.input_bias[head][j], recurrent = a.recurrent_bias[head][j];
  for (int i = 0; i < a.width; ++i) {
    const float x = a.x[t][head * a.width + i];
    input += x * a.input_weight[head][int64_t(i) * a.width + j];
    recurrent += x * a.recurrent_weight[head][int64_t(i) * a.width + j];
  }
  const float gated = a.x[t][c] / (1 + expf(-input)), p = a.param[c];
  const int64_t at = int64_t(t) * a.channels + c;
  if (a.positions && a.positions[t] == 0) {
    a.decay[at] = 0, a.input[at] = gated;
    return;
  }
  const float log_a = -8 * (fmaxf(p, 0.f) + log1pf(expf(-fabsf(p)))) / (1 + expf(-recurrent));
  a.decay[at] = expf(log_a);
  a.input[at] = sqrtf(-expm1f(2 * log_a)) * gated;
}

__global__ void __launch_bounds__(kThreads) rg_lru(RgLruArgs a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), s = int(blockIdx.x);
  if (c >= a.channels) return;
  const global<float> state = a.state[a.sequences.slot(s)];
  float h = state[c];
  for (int t = a.sequences.begin(s); t < a.sequences.end(s); ++t) {
    const int64_t at = int64_t(t) * a.channels + c;
    const float decay = a.decay[at];
    h = a.input[at] + (decay == 0 ? 0 : decay * h);
    a.y[t][c] = h;
  }
  state[c] = h;
}

}  // namespace

template <>
void run(const RgLru& op) {
  if (op.x[0] == 0) return;
  const int64_t channels = op.x[1], tiles = ceil_div(channels, kThreads);
  const Scratch<float> scratch(2 * op.x[0] * channels);
  const RgLruArgs a{op.x,
                    op.input_weight,
                    op.recurrent_weight,
                    op.input_bias,
                    op.recurrent_bias,
                    global_data<const float>(op.recurrent_param),
                    global_data<const int32_t>(op.positions),
                    scratch.data(),
                    scratch.data() + op.x[0] * channels,
                    op.state,
                    op.y,
                    Sequences(op.cu_seqlens, op.slots, op.x[0]),
                    int(channels),
                    int(op.input_weight[1])};
  launch(rg_lru_gates, {op.x[0], tiles}, kThreads, a);
  launch(rg_lru, {a.sequences.count, tiles}, kThreads, a);
}

}  // namespace statespace::cuda
