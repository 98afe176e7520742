#include "gradients.h"
#include "ops/causal_conv1d.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct ConvGradientArgs {
  Rows<const float> x, weight, dy, initial, dfinal;
  global<const float> bias;
  Rows<float> dx, dinitial;
  global<float> g;  // (tokens, channels): dy · act'
  Sequences sequences;
  int channels, d_conv;
  bool silu;

  // Input t of a channel of sequence s, which before it is the state's.
  __device__ float input(int s, int64_t t, int64_t c) const {
    const int64_t begin = sequences.begin(s), past = d_conv - 1;
    if (t >= begin) return x[t][c];
    return initial ? initial[s][c * past + past + t - begin] : 0;
  }
  __device__ float up(int64_t t, int64_t c) const { return g[t * channels + c]; }
};

struct Upstream {
  ConvGradientArgs a;
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
    const int s = a.sequences.containing(int(t));
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t c = first + i;
      float pre = a.bias ? a.bias[c] : 0;
      for (int j = 0; a.silu && j < a.d_conv; ++j) pre += a.weight[c][j] * a.input(s, t - a.d_conv + 1 + j, c);
      a.g[t * a.channels + c] = a.silu ? a.dy[t][c] * silu_gradient(pre) : a.dy[t][c];
    }
  }
};

// The inputs' gradients; the last d_conv - 1 of a sequence are its final state as well.
struct InputGradient {
  ConvGradientArgs a;
  template <int W>
  __device__ void at(int64_t t, int64_t first) const {
    const int s = a.sequences.containing(int(t));
    const int64_t end = a.sequences.end(s), past = a.d_conv - 1;
#pragma unroll
    for (int i = 0; i < W; ++i) {
      const int64_t c = first + i;
      float dx = 0;
      for (int j = 0; j < a.d_conv; ++j)
        if (t + past - j < end) dx += a.weight[c][j] * a.up(t + past - j, c);
      if (a.dfinal && t >= end - past) dx += a.dfinal[s][c * past + t - end + past];
      a.dx[t][c] = dx;
    }
  }
};

// Row s, column c · past + i: input i of the state met token t by weight i - t.
struct StateGradient {
  ConvGradientArgs a;
  template <int W>
  __device__ void at(int64_t s, int64_t first) const {
    const int64_t past = a.d_conv - 1, begin = a.sequences.begin(int(s)), length = a.sequences.end(int(s)) - begin;
#pragma unroll
    for (int k = 0; k < W; ++k) {
      const int64_t c = (first + k) / past, i = (first + k) % past;
      float total = 0;
      for (int64_t t = 0; t <= i && t < length; ++t) total += a.weight[c][i - t] * a.up(begin + t, c);
      if (a.dfinal && i >= length) total += a.dfinal[s][c * past + i - length];
      a.dinitial[s][first + k] = total;
    }
  }
};

struct ConvWeightSum {
  ConvGradientArgs a;
  __device__ float operator()(int64_t t, int64_t column) const {
    const int64_t c = column / a.d_conv, j = column % a.d_conv;
    return a.up(t, c) * a.input(a.sequences.containing(int(t)), t - a.d_conv + 1 + j, c);
  }
};
struct ConvBiasSum {
  ConvGradientArgs a;
  __device__ float operator()(int64_t t, int64_t c) const { return a.up(t, c); }
};

}  // namespace

template <>
void run(const CausalConv1dBackward& op) {
  const int64_t tokens = op.x[0], channels = op.x[1], d_conv = op.weight[1];
  const Scratch<float> g(larger<int64_t>(tokens * channels, 1));
  const ConvGradientArgs a{op.x,
                           op.weight,
                           op.dy,
                           op.initial_state,
                           op.dfinal_state,
                           global_data<const float>(op.bias),
                           op.dx,
                           op.dinitial_state,
                           g.data(),
                           Sequences(op.cu_seqlens, Tensor{}, tokens),
                           int(channels),
                           int(d_conv),
                           op.activation == 1};
  launch_pointwise(Upstream{a}, tokens, channels);
  if (op.dx) launch_pointwise(InputGradient{a}, tokens, channels);
  if (op.dinitial_state) launch_pointwise(StateGradient{a}, a.sequences.count, channels * (d_conv - 1));
  if (op.dweight) sum_columns(ConvWeightSum{a}, tokens, channels * d_conv, Rows<float>(op.dweight), d_conv);
  if (op.dbias) sum_columns(ConvBiasSum{a}, tokens, op.dbias);
}

}  // namespace statespace::cuda
