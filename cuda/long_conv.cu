// The convolution of a session with all its inputs. New tokens meet the earlier ones term by term: a block takes 32
// channels and kTokens neighbouring tokens, its warps share the positions, and a warp slides the taps through
// registers. Few new tokens meet each other in the same way, many of them by FFT.
#include <cfloat>

#include "ops/fft_conv.h"
#include "ops/long_conv.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

constexpr int kTokens = 8, kWarps = 16, kThreads = kWarps * 32, kTile = 32;

struct LongArgs {
  Rows<const float> x, kernel;
  global<const float> D;
  global<const int32_t> positions;
  Rows<const int32_t> table;
  Rows<float> history, y;
  Sequences sequences;
  Pieces pieces;
  int channels, taps, page_size;
  bool only_past;          // the new tokens' own terms are in y
  Rows<float> transposed;  // (channels, taps)

  // Position of the first token of a sequence that has some.
  __device__ int past(int s) const { return positions ? positions[sequences.begin(s)] : 0; }
  __device__ global<float> row(int s, int position) const {
    const int page = position / page_size;
    return history[table ? table[s][page] : page] + int64_t(position % page_size) * channels;
  }
};

__global__ void __launch_bounds__(kThreads) append(LongArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= int64_t(a.sequences.tokens) * a.channels) return;
  const int t = int(i / a.channels), c = int(i % a.channels), s = a.sequences.containing(t);
  a.row(s, a.past(s) + t - a.sequences.begin(s))[c] = a.x[t][c];
}

__global__ void __launch_bounds__(kThreads) convolve(LongArgs a) {
  struct Shared {
    float sums[kWarps][kTokens][32];
  };
  auto& shared_sums = shared<Shared>().sums;
  const int piece = int(blockIdx.x), s = a.pieces.sequence(piece);
  const int begin = a.pieces.begin(piece, s), count = a.pieces.end(piece, s) - begin;
  if (count <= 0) return;  // the whole block
  const int past = a.past(s), first_position = past + begin - a.sequences.begin(s);
  const int c = int(blockIdx.y) * 32 + lane();

  const int from = larger(0, first_position - a.taps + 1), to = a.only_past ? past : first_position + count;
  const int stretch = larger(0, int(ceil_div(to - from, kWarps)));
  const int first = from + warp() * stretch, last = smaller(to, first + stretch);
  float sums[kTokens] = {}, tap[kTokens];  // tap[j]: of token j
  if (c < a.channels && first < last) {
    auto tap_at = [&](int lag) { return lag >= 0 && lag < a.taps ? a.kernel[lag][c] : 0.f; };
#pragma unroll
    for (int j = 1; j < kTokens; ++j) tap[j - 1] = tap_at(first_position - first + j);
    for (int q = first; q < last; ++q) {
#pragma unroll
      for (int j = kTokens - 1; j > 0; --j) tap[j] = tap[j - 1];
      tap[0] = tap_at(first_position - q);
      const float x = a.row(s, q)[c];
      const bool finite = fabsf(x) <= FLT_MAX;  // or else it goes nowhere but where it has a tap
#pragma unroll
      for (int j = 0; j < kTokens; ++j) {
        const int lag = first_position + j - q;
        if (finite || (lag >= 0 && lag < a.taps)) sums[j] += tap[j] * x;
      }
    }
  }
#pragma unroll
  for (int j = 0; j < kTokens; ++j) shared_sums[warp()][j][lane()] = sums[j];
  barrier();
  for (int j = warp(); j < count; j += kWarps) {
    if (c >= a.channels) continue;
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += shared_sums[w][j][lane()];
    const int t = begin + j;
    a.y[t][c] = a.only_past ? a.y[t][c] + sum : a.D ? sum + a.D[c] * a.x[t][c] : sum;
  }
}

__global__ void __launch_bounds__(kTile* kTokens) transpose(LongArgs a) {
  struct Shared {
    float v[kTile][kTile + 1];
  };
  auto& s = shared<Shared>();
  const int taps = int(a.transposed.stride), first = int(blockIdx.y) * kTile, channel = int(blockIdx.x) * kTile;
  for (int j = warp(); j < kTile; j += kTokens)
    if (first + j < taps && channel + lane() < a.channels) s.v[j][lane()] = a.kernel[first + j][channel + lane()];
  barrier();
  for (int j = warp(); j < kTile; j += kTokens)
    if (first + lane() < taps && channel + j < a.channels) a.transposed[channel + j][first + lane()] = s.v[lane()][j];
}

}  // namespace

template <>
void run(const LongConv& op) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  const int64_t tokens = op.x[0], channels = op.x[1];
  if (tokens == 0 || channels == 0) return;
  const bool few = few_tokens(sequences);
  LongArgs args{op.x,
                op.kernel,
                global_data<const float>(op.D),
                global_data<const int32_t>(op.positions),
                op.page_table,
                op.history,
                op.y,
                sequences,
                Pieces(sequences, kTokens),
                int(channels),
                int(op.kernel[0]),
                int(op.history[2]),
                !few,
                {}};
  launch(append, {ceil_div(tokens * channels, kThreads)}, kThreads, args);
  if (!few) {
    Tensor K;
    const int64_t taps = smaller(op.kernel[0], tokens);
    const Scratch<float> memory(larger<int64_t>(1, channels * taps));
    K.data = &*memory.data(), K.rank = 2;
    K.shape[0] = channels, K.shape[1] = K.row_stride = taps;
    args.transposed = K;
    launch(transpose, {ceil_div(channels, kTile), ceil_div(taps, kTile)}, kTile * kTokens, args);
    FftConv conv;
    conv.x = op.x, conv.kernel = K, conv.D = op.D, conv.cu_seqlens = op.cu_seqlens, conv.y = op.y;
    run(conv);
  }
  launch(convolve, {args.pieces.count(), ceil_div(channels, 32)}, kThreads, args);
}

}  // namespace statespace::cuda
