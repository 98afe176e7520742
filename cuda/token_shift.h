#pragma once
// What tokenShift and tokenShiftMix share: a thread walks one channel through a piece of a sequence with the previous
// token in a register; fn(t, c, previous, now) writes. The state is written by a launch of its own where other pieces
// still read it, and at once where a sequence is one piece.
#include "views.h"

namespace statespace::cuda {

template <class Fn>
struct ShiftArgs {
  Fn fn;
  Rows<const float> x;
  Rows<float> state;
  Pieces pieces;
  int channels;
  bool keep_state;
};

constexpr int kShiftThreads = 128, kShiftTokens = 16;

template <class Fn>
__global__ void __launch_bounds__(kShiftThreads, 8) token_shift(ShiftArgs<Fn> a) {
  const int c = int(blockIdx.y) * kShiftThreads + int(threadIdx.x), piece = int(blockIdx.x);
  if (c >= a.channels) return;
  const int s = a.pieces.sequence(piece);
  const int begin = a.pieces.begin(piece, s), end = a.pieces.end(piece, s);
  if (begin >= end) return;
  const global<float> state = a.state[a.pieces.sequences.slot(s)] + c;
  float previous = begin == a.pieces.sequences.begin(s) ? *state : a.x[begin - 1][c];
  for (int t = begin; t < end; ++t) {
    const float now = a.x[t][c];
    a.fn(t, c, previous, now);
    previous = now;
  }
  if (a.keep_state) *state = previous;
}

template <class Fn>
__global__ void __launch_bounds__(kShiftThreads) store_last_token(ShiftArgs<Fn> a) {
  const int c = int(blockIdx.y) * kShiftThreads + int(threadIdx.x), s = int(blockIdx.x);
  const int end = a.pieces.sequences.end(s);
  if (c < a.channels && end > a.pieces.sequences.begin(s)) a.state[a.pieces.sequences.slot(s)][c] = a.x[end - 1][c];
}

template <class Fn>
void launch_shift(const Fn& fn, const Tensor& x, const Tensor& state, const Sequences& sequences) {
  const bool whole = few_tokens(sequences);
  const ShiftArgs<Fn> a{fn, x, state, Pieces(sequences, whole ? x[0] : kShiftTokens), int(x[1]), whole};
  const int64_t tiles = ceil_div(x[1], kShiftThreads);
  launch(token_shift<Fn>, {a.pieces.count(), tiles}, kShiftThreads, a);
  if (!whole) launch(store_last_token<Fn>, {sequences.count, tiles}, kShiftThreads, a);
}

}  // namespace statespace::cuda
