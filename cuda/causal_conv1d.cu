// Causal convolution. A thread walks one channel through a piece of a sequence with the last K inputs in registers;
// neighbouring threads hold neighbouring channels. The state is written by a launch of its own where other pieces still
// read it, and at once where a sequence is one piece.
#include "elementary.h"
#include "ops/causal_conv1d.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct ConvArgs {
  Rows<const float> x;
  Rows<const float> weight;
  global<const float> bias;
  Rows<float> state, y;
  Pieces pieces;
  int channels, d_conv;
  bool silu, keep_state;
};

constexpr int kThreads = 128;
constexpr int kTokens = 32;  // a piece

// Input t of a channel, which before the sequence is the state's.
__device__ float input(const ConvArgs& a, const global<float>& state, int begin, int t, int c) {
  return t >= begin ? a.x[t][c] : state[a.d_conv - 1 + t - begin];
}

// The last d_conv - 1 inputs of a sequence; in order, so that what is left of the old state is read before it goes.
__device__ void store_state(const ConvArgs& a, const global<float>& state, int begin, int end, int c) {
  for (int j = 0; j < a.d_conv - 1; ++j) state[j] = input(a, state, begin, end - (a.d_conv - 1) + j, c);
}

// K = d_conv, or 0 for any.
template <int K>
__global__ void __launch_bounds__(kThreads) causal_conv1d(ConvArgs a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), piece = int(blockIdx.x);
  if (c >= a.channels) return;
  const int s = a.pieces.sequence(piece), first = a.pieces.sequences.begin(s);
  const int begin = a.pieces.begin(piece, s), end = a.pieces.end(piece, s);
  if (begin >= end) return;
  const global<float> state = a.state[a.pieces.sequences.slot(s)] + int64_t(c) * (a.d_conv - 1);
  const float bias = a.bias ? a.bias[c] : 0;
  if constexpr (K > 0) {
    float weight[K], window[K];
#pragma unroll
    for (int j = 0; j < K; ++j) weight[j] = a.weight[c][j];
#pragma unroll
    for (int j = 1; j < K; ++j) window[j] = input(a, state, first, begin - K + j, c);
    for (int t = begin; t < end; ++t) {
#pragma unroll
      for (int j = 1; j < K; ++j) window[j - 1] = window[j];
      window[K - 1] = a.x[t][c];
      float y = bias;
#pragma unroll
      for (int j = 0; j < K; ++j) y += weight[j] * window[j];
      a.y[t][c] = a.silu ? silu(y) : y;
    }
  } else {
    for (int t = begin; t < end; ++t) {
      float y = bias;
      for (int j = 0; j < a.d_conv; ++j) y += a.weight[c][j] * input(a, state, first, t - a.d_conv + 1 + j, c);
      a.y[t][c] = a.silu ? silu(y) : y;
    }
  }
  if (a.keep_state) store_state(a, state, first, end, c);
}

__global__ void __launch_bounds__(kThreads) store_states(ConvArgs a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), s = int(blockIdx.x);
  if (c >= a.channels) return;
  const global<float> state = a.state[a.pieces.sequences.slot(s)] + int64_t(c) * (a.d_conv - 1);
  store_state(a, state, a.pieces.sequences.begin(s), a.pieces.sequences.end(s), c);
}

}  // namespace

template <>
void run(const CausalConv1d& op) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  const bool whole = few_tokens(sequences);
  const ConvArgs a{op.x,
                   op.weight,
                   global_data<const float>(op.bias),
                   op.state,
                   op.y,
                   Pieces(sequences, whole ? op.x[0] : kTokens),
                   int(op.x[1]),
                   int(op.weight[1]),
                   op.activation == 1,
                   whole};
  const auto kernel = a.d_conv == 2   ? causal_conv1d<2>
                      : a.d_conv == 3 ? causal_conv1d<3>
                      : a.d_conv == 4 ? causal_conv1d<4>
                                      : causal_conv1d<0>;
  const int64_t tiles = ceil_div(op.x[1], kThreads);
  launch(kernel, {a.pieces.count(), tiles}, kThreads, a);
  if (!whole) launch(store_states, {sequences.count, tiles}, kThreads, a);
}

}  // namespace statespace::cuda
