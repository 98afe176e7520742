// RWKV-4's attention. A thread walks one channel; where that leaves the device idle, sequences are cut into pieces: a
// first pass finds each piece's sums from nothing, they are joined, and a second pass starts every piece from what came
// before it.
#include "ops/wkv4.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct Wkv4Args {
  Rows<const float> k, v;
  global<const float> time_decay, time_first;
  Rows<float> state, y;
  Pieces pieces;
  int channels;
  Rows<float> piece_state;  // (pieces, 3, channels): after a piece from nothing, then before it
};

constexpr int kThreads = 128, kShortestPiece = 64;

// num·e^p and den·e^p: p keeps any k from overflowing.
struct Sums {
  float num = 0, den = 0, p = -1e38f;
};

// The sums of a, its exponent raised by `decay`, and b.
__device__ Sums join(const Sums& a, float decay, const Sums& b) {
  const float p = a.p + decay, top = fmaxf(p, b.p), old = expf(p - top), fresh = expf(b.p - top);
  return {old * a.num + fresh * b.num, old * a.den + fresh * b.den, top};
}

__device__ Sums load_sums(const Wkv4Args& a, const global<float>& row, int c) {
  return {row[c], row[a.channels + c], row[2 * a.channels + c]};
}
__device__ void store_sums(const Wkv4Args& a, const global<float>& row, int c, const Sums& s) {
  row[c] = s.num, row[a.channels + c] = s.den, row[2 * a.channels + c] = s.p;
}

template <bool kOnlyState>
__global__ void __launch_bounds__(kThreads) wkv4(Wkv4Args a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), piece = int(blockIdx.x);
  if (c >= a.channels) return;
  const int s = a.pieces.sequence(piece), begin = a.pieces.begin(piece, s), end = a.pieces.end(piece, s);
  if (begin >= end) return;
  const global<float> row = a.piece_state ? a.piece_state[piece] : a.state[a.pieces.sequences.slot(s)];
  const float w = -expf(a.time_decay[c]), u = a.time_first[c];
  Sums sums;
  if (!kOnlyState) sums = load_sums(a, row, c);
  for (int t = begin; t < end; ++t) {
    const float k = a.k[t][c], v = a.v[t][c];
    if (!kOnlyState) {
      const Sums now = join(sums, 0, {v, 1, u + k});
      a.y[t][c] = now.num / now.den;
    }
    sums = join(sums, w, {v, 1, k});
  }
  if (kOnlyState || !a.piece_state) store_sums(a, row, c, sums);
}

// Turns the pieces' sums into what stands before each piece, and leaves the sequence's last.
__global__ void __launch_bounds__(kThreads) join_pieces(Wkv4Args a) {
  const int c = int(blockIdx.y) * kThreads + int(threadIdx.x), s = int(blockIdx.x);
  if (c >= a.channels) return;
  const global<float> state = a.state[a.pieces.sequences.slot(s)];
  const float w = -expf(a.time_decay[c]);
  Sums sums = load_sums(a, state, c);
  for (int piece = a.pieces.first(s); a.pieces.begin(piece, s) < a.pieces.sequences.end(s); ++piece) {
    const Sums own = load_sums(a, a.piece_state[piece], c);
    store_sums(a, a.piece_state[piece], c, sums);
    sums = join(sums, w * float(a.pieces.end(piece, s) - a.pieces.begin(piece, s)), own);
  }
  store_sums(a, state, c, sums);
}

}  // namespace

template <>
void run(const Wkv4& op) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.k[0]);
  const int64_t tiles = ceil_div(op.k[1], kThreads);
  Wkv4Args a{op.k,
             op.v,
             global_data<const float>(op.time_decay),
             global_data<const float>(op.time_first),
             op.state,
             op.y,
             Pieces(sequences, split_over_time(sequences, tiles, kShortestPiece)),
             int(op.k[1]),
             {}};
  const Grid grid = {a.pieces.count(), tiles};
  if (a.pieces.size >= sequences.tokens) return launch(wkv4<false>, grid, kThreads, a);

  const Scratch<float> sums(grid.x * 3 * op.k[1]);
  a.piece_state.data = sums.data(), a.piece_state.stride = 3 * op.k[1];
  launch(wkv4<true>, grid, kThreads, a);
  launch(join_pieces, {sequences.count, tiles}, kThreads, a);
  launch(wkv4<false>, grid, kThreads, a);
}

}  // namespace statespace::cuda
