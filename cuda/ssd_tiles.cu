// SSD in tiles of tokens. Chunked: a block takes one head (64 channels of it) through the chunks of a piece of a
// sequence, the state passing through global memory, where it stays in the cache. Sequences that alone would leave the
// device idle are cut into pieces: a first pass finds what each does to a state, and a second one runs all at once.
// Quadratic: a block takes 64 tokens against all keys before them.
#include "ssd_tile.h"

namespace statespace::cuda {
namespace {

// Times of tokens [token, token + count), by the first warp; tokens behind them have dt = 0.
__device__ void fill_times(const SsdArgs& a, SsdShared& s, int head, int token, int count) {
  if (warp() == 0) {
    double before = 0, sums[kTile / 32];
    float dt[kTile / 32];
#pragma unroll
    for (int i = 0; i < kTile / 32; ++i) {
      const int t = 32 * i + lane();
      dt[i] = t < count ? a.step(token + t, head) : 0;
      sums[i] = running_sum(t < count ? a.log_decay(dt[i], head) : 0, before);
      before = shuffle(sums[i], 31);
    }
#pragma unroll
    for (int i = 0; i < kTile / 32; ++i) {
      const int t = 32 * i + lane();
      s.dt[t] = dt[i];
      s.weight[t] = dt[i] * expf(float(before - sums[i]));
      s.keys.high[t] = s.queries.high[t] = float(sums[i]);
      s.keys.low[t] = s.queries.low[t] = float(sums[i] - float(sums[i]));
    }
  }
}

// kOnlyState: no y. With pieces of sequences, the pass that finds their end states from zero.
template <bool kExact, bool kOnlyState>
__global__ void __launch_bounds__(kSsdThreads, 2) ssd_chunks(SsdArgs a) {
  auto& s = shared<SsdShared>();
  const int piece = int(blockIdx.x), sequence = a.pieces.sequence(piece);
  const int start = a.sequences.begin(sequence) + (piece - a.pieces.first(sequence)) * a.pieces.size;
  const int end = smaller(a.sequences.end(sequence), start + a.pieces.size);
  if (start >= end) return;  // the whole block
  const SsdBlock block{a, s, int(blockIdx.y), int(blockIdx.z) * kTile};
  const global<float> state = (a.piece_state ? a.piece_state + int64_t(piece) * a.nheads * a.state_size()
                                             : a.state[a.sequences.slot(sequence)]) +
                              block.head * a.state_size();
  float total = 1;
  if (threadIdx.x == 0) s.plain = true;
  for (int token = start; token < end; token += a.chunk) {
    const int count = smaller(a.chunk, end - token);
    barrier();  // the last chunk has been read
    block.load_x(token, count);
    fill_times(a, s, block.head, token, count);
    barrier();
    const float decay = expf(s.keys.high[kTile - 1] + s.keys.low[kTile - 1]);
    total *= decay;
    Part scores = {}, out = {};
    for (int n0 = 0; n0 < a.d_state; n0 += kSlice) {
      barrier();
      block.load_slice(s.slice.B, a.B, token, count, n0);
      if (!kOnlyState) block.load_slice(s.slice.C, a.C, token, count, n0);
      block.load_state(state, kOnlyState && a.piece_state && token == start, n0);
      barrier();
      if constexpr (!kOnlyState) {
        block.group_scores<kExact>(count, count, true, scores);
        block.read_state<kExact>(count, out);
      }
      block.update_state<kExact>(count, state, decay, n0);
    }
    if constexpr (!kOnlyState) {
      block.decay_from_start(out);
      barrier();
      block.mask_scores(true, scores);
      barrier();
      block.read_inputs<kExact>(count, count, true, out);
      block.store(token, count, out);
    }
  }
  if (kOnlyState && a.piece_decay && block.channel == 0 && threadIdx.x == 0)
    a.piece_decay[int64_t(piece) * a.nheads + block.head] = total;
}

constexpr int kThreads = 256;

// One value of a head's state: turns the pieces' end states into their start states, and leaves the sequence's last
// one.
__global__ void __launch_bounds__(kThreads) ssd_join(SsdArgs a) {
  const int64_t per_sequence = a.nheads * a.state_size(), i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= per_sequence * a.sequences.count) return;
  const int sequence = int(i / per_sequence);
  const int64_t cell = i % per_sequence;
  const global<float> state = a.state[a.sequences.slot(sequence)] + cell;
  float h = *state;
  const int first = a.pieces.first(sequence);
  const int count = int(ceil_div(a.sequences.end(sequence) - a.sequences.begin(sequence), a.pieces.size));
  for (int piece = first; piece < first + count; ++piece) {
    const global<float> kept = a.piece_state + piece * per_sequence + cell;
    const float from_zero = *kept;
    *kept = h;
    h = a.piece_decay[int64_t(piece) * a.nheads + cell / a.state_size()] * h + from_zero;
  }
  *state = h;
}

// dt and the sums of dt·A from each sequence's start, one sequence and head a warp.
__global__ void __launch_bounds__(kThreads) ssd_times(SsdArgs a) {
  const int64_t i = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  if (i >= int64_t(a.sequences.count) * a.nheads) return;
  const int s = int(i / a.nheads), head = int(i % a.nheads);
  const int64_t plane = int64_t(a.nheads) * a.sequences.tokens;
  const global<float> times = a.times + int64_t(head) * a.sequences.tokens;
  double before = 0;
  for (int t0 = a.sequences.begin(s); t0 < a.sequences.end(s); t0 += 32) {
    const int t = t0 + lane();
    const bool inside = t < a.sequences.end(s);
    const float dt = inside ? a.step(t, head) : 0;
    const double sum = running_sum(inside ? a.log_decay(dt, head) : 0, before);
    before = shuffle(sum, 31);
    if (inside) times[t] = dt, times[plane + t] = float(sum), times[2 * plane + t] = float(sum - float(sum));
  }
}

template <bool kExact>
__global__ void __launch_bounds__(kSsdThreads, 2) ssd_square(SsdArgs a) {
  auto& s = shared<SsdShared>();
  const int tile = int(blockIdx.x), sequence = a.pieces.sequence(tile);
  const int start = a.sequences.begin(sequence), end = a.sequences.end(sequence);
  const int token = start + (tile - a.pieces.first(sequence)) * kTile, count = smaller(kTile, end - token);
  if (count <= 0) return;  // the whole block
  const SsdBlock block{a, s, int(blockIdx.y), int(blockIdx.z) * kTile};
  const global<const float> state = a.state[a.sequences.slot(sequence)] + block.head * a.state_size();
  const int64_t plane = int64_t(a.nheads) * a.sequences.tokens;
  const global<const float> times = a.times + int64_t(block.head) * a.sequences.tokens;
  auto load_times = [&](SsdShared::Times& to, int from, int tokens) {
    for (int i = int(threadIdx.x); i < kTile; i += kSsdThreads) {
      const int t = from + smaller(i, tokens - 1);
      to.high[i] = times[plane + t], to.low[i] = times[2 * plane + t];
    }
  };

  if (threadIdx.x == 0) s.plain = true;
  Part out = {};
  load_times(s.queries, token, count);
  for (int n0 = 0; n0 < a.d_state; n0 += kSlice) {
    barrier();
    block.load_slice(s.slice.C, a.C, token, count, n0);
    block.load_state(state, false, n0);
    barrier();
    block.read_state<kExact>(count, out);
  }
  block.decay_from_start(out);
  for (int key = start; key <= token; key += kTile) {
    const int keys = smaller(kTile, end - key);
    const bool causal = key == token;
    barrier();
    block.load_x(key, keys);
    load_times(s.keys, key, keys);
    for (int i = int(threadIdx.x); i < kTile; i += kSsdThreads) s.dt[i] = i < keys ? times[key + i] : 0;
    Part scores = {};
    for (int n0 = 0; n0 < a.d_state; n0 += kSlice) {
      barrier();
      block.load_slice(s.slice.B, a.B, key, keys, n0);
      block.load_slice(s.slice.C, a.C, token, count, n0);
      barrier();
      block.group_scores<kExact>(count, keys, causal, scores);
    }
    barrier();
    block.mask_scores(causal, scores);
    barrier();
    block.read_inputs<kExact>(count, keys, causal, out);
  }
  block.store(token, count, out);
}

Grid grid_of(const SsdArgs& a) { return {a.pieces.count(), a.nheads, ceil_div(a.headdim, kTile)}; }

template <bool kExact>
void chunked(SsdArgs a) {
  constexpr int kShortestPiece = 128;  // tokens
  const int64_t size =
      split_over_time(a.sequences, a.nheads * ceil_div(a.headdim, kTile), larger(kShortestPiece, a.chunk));
  a.pieces.size = int(ceil_div(size, a.chunk) * a.chunk);
  if (a.pieces.size >= a.sequences.tokens) return launch(ssd_chunks<kExact, false>, grid_of(a), kSsdThreads, a);

  const int64_t states = int64_t(a.nheads) * a.headdim * a.d_state;
  const Scratch<float> ends(a.pieces.count() * states), decays(a.pieces.count() * a.nheads);
  a.piece_state = ends.data(), a.piece_decay = decays.data();
  launch(ssd_chunks<kExact, true>, grid_of(a), kSsdThreads, a);
  launch(ssd_join, {ceil_div(a.sequences.count * states, kThreads)}, kThreads, a);
  launch(ssd_chunks<kExact, false>, grid_of(a), kSsdThreads, a);
}

template <bool kExact>
void quadratic(SsdArgs a) {
  const Scratch<float> times(3 * int64_t(a.nheads) * a.sequences.tokens);
  a.times = times.data();
  launch(ssd_times, {ceil_div(int64_t(a.sequences.count) * a.nheads, kThreads / 32)}, kThreads, a);
  SsdArgs tiles = a;
  tiles.pieces.size = kTile;
  launch(ssd_square<kExact>, grid_of(tiles), kSsdThreads, tiles);
  launch(ssd_chunks<kExact, true>, grid_of(a), kSsdThreads, a);  // the state, which ssd_square has read
}

}  // namespace

void ssd_chunked(const SsdArgs& a, bool exact) { exact ? chunked<true>(a) : chunked<false>(a); }
void ssd_quadratic(const SsdArgs& a, bool exact) { exact ? quadratic<true>(a) : quadratic<false>(a); }

}  // namespace statespace::cuda
