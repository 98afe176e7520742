#pragma once
// Recurrences over a head's matrix S: RWKV 5 to 7, retention, the delta rule. The columns of `value` evolve by
// themselves: a block walks 32 of them through a sequence, a column's keys across 8 lanes and in their registers. Its
// tokens are staged in shared memory some at a time. Rules whose decay is diagonal are split over time where whole
// sequences leave the device idle: a first pass finds what each piece adds to a state, and a second runs all pieces.
//
// A rule has kVectors and load(n, t, head, i), value i of the n-th vector over keys of token t; kScalars and
// scalar(n, t, head); kDiagonal and, where that is true, decay(x, i); value_head(head), if heads share those of v; and
// step(S, x, v), which takes one column to the next token and returns its lane's part of y.
#include "views.h"

namespace statespace::cuda {

constexpr int kHeadThreads = 256, kKeyLanes = 8, kHeadColumns = kHeadThreads / kKeyLanes;
constexpr int kMostKeys = 32 * kKeyLanes;  // in registers; beyond, S stays in memory

__device__ inline float key_sum(float v) {
#pragma unroll
  for (int mask = kKeyLanes / 2; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// The m-th key of a lane: fours of neighbours, so that eight lanes read 128 bytes without bank conflicts.
__device__ constexpr int key_of(int part, int m) { return m / 4 * 4 * kKeyLanes + part * 4 + m % 4; }

// A lane's share of a column of S: R values, or with R = 0 any number of them where they lie.
template <int R>
class Column {
 public:
  __device__ Column(const global<float>& p, int64_t stride, int part, int keys)
      : p_(p), stride_(stride), part_(part), keys_(keys) {
#pragma unroll
    for (int m = 0; m < R; ++m) s_[m] = 0;
  }
  __device__ void load() {
#pragma unroll
    for (int m = 0; m < R; ++m)
      if (key_of(part_, m) < keys_) s_[m] = p_[key_of(part_, m) * stride_];
  }
  __device__ void store() const {
#pragma unroll
    for (int m = 0; m < R; ++m)
      if (key_of(part_, m) < keys_) p_[key_of(part_, m) * stride_] = s_[m];
  }
  // fn(s, i) for each of this lane's keys.
  template <class Fn>
  __device__ void each(Fn&& fn) {
    if constexpr (R > 0) {
#pragma unroll
      for (int m = 0; m < R; ++m) fn(s_[m], key_of(part_, m));
    } else {
      for (int m = 0; m / 4 * 4 * kKeyLanes < keys_; ++m)
        if (key_of(part_, m) < keys_) fn(p_[key_of(part_, m) * stride_], key_of(part_, m));
    }
  }

 private:
  global<float> p_;
  int64_t stride_;
  int part_, keys_;
  float s_[R > 0 ? R : 1];
};

template <class Rule>
struct HeadArgs {
  Rule rule;
  Rows<const float> v;  // (tokens, nheads, value)
  Rows<float> y, state;
  Pieces pieces;
  int nheads, keys, values;
  int64_t key_stride, value_stride;     // of a head's S
  global<float> piece_state = nullptr;  // (pieces, nheads, key, value): after a piece from zero, then before it
  global<float> piece_decay = nullptr;  // (pieces, nheads, key)
};

template <class Rule, int R>
constexpr int kStagedTokens = R == 0 ? 16 : smaller(16, 8192 / (Rule::kVectors * R * kKeyLanes));

// Vectors are padded with zeros to the keys that the lanes hold.
template <class Rule, int R>
struct alignas(16) HeadShared {
  static constexpr int kTokens = kStagedTokens<Rule, R>;
  float vectors[kTokens][Rule::kVectors][R > 0 ? R* kKeyLanes : 1];
  float v[kTokens][kHeadColumns];
  float y[kTokens][kHeadColumns];
  float scalars[kTokens][Rule::kScalars > 0 ? Rule::kScalars : 1];
};

// A staged token as a rule reads it.
template <class Rule, int R>
struct HeadToken {
  const HeadShared<Rule, R>& s;
  const Rule& rule;
  int staged, t, head;
  __device__ float operator()(int n, int i) const {
    if constexpr (R > 0)
      return s.vectors[staged][n][i];
    else
      return rule.load(n, t, head, i);
  }
  __device__ float scalar(int n) const { return s.scalars[staged][n]; }
};

template <class Rule>
__device__ int64_t value_head(const Rule& rule, int head) {
  if constexpr (requires { rule.value_head(head); }) return rule.value_head(head);
  return head;
}

template <class Rule, int R>
__device__ void stage_tokens(const HeadArgs<Rule>& a, HeadShared<Rule, R>& s, int begin, int count, int head,
                             int first) {
  const int thread = int(threadIdx.x);
  if constexpr (R > 0) {
    constexpr int kKeys = R * kKeyLanes;
    for (int i = thread; i < count * Rule::kVectors * kKeys; i += kHeadThreads) {
      const int t = i / (Rule::kVectors * kKeys), n = i / kKeys % Rule::kVectors, key = i % kKeys;
      s.vectors[t][n][key] = key < a.keys ? a.rule.load(n, begin + t, head, key) : 0;
    }
  }
  for (int i = thread; i < count * kHeadColumns; i += kHeadThreads) {
    const int t = i / kHeadColumns, j = first + i % kHeadColumns;
    s.v[t][i % kHeadColumns] = j < a.values ? a.v[begin + t][value_head(a.rule, head) * a.values + j] : 0;
  }
  if constexpr (Rule::kScalars > 0) {
    for (int i = thread; i < count * Rule::kScalars; i += kHeadThreads)
      s.scalars[i / Rule::kScalars][i % Rule::kScalars] =
          a.rule.scalar(i % Rule::kScalars, begin + i / Rule::kScalars, head);
  }
}

// Blocks that the compiler keeps registers for: left to itself it spills a few to keep one more block resident.
constexpr int head_blocks(int R) { return R >= 32 ? 1 : R >= 8 ? 2 : 3; }

template <class Rule, int R, bool kOnlyState>
__global__ void __launch_bounds__(kHeadThreads, head_blocks(R)) head_recurrence(HeadArgs<Rule> a) {
  auto& s = shared<HeadShared<Rule, R> >();
  const int piece = int(blockIdx.x) / a.nheads, head = int(blockIdx.x) % a.nheads;
  const int sequence = a.pieces.sequence(piece);
  const int begin = a.pieces.begin(piece, sequence), end = a.pieces.end(piece, sequence);
  if (begin >= end) return;  // the whole block
  const int part = int(threadIdx.x) % kKeyLanes, column = int(threadIdx.x) / kKeyLanes;
  const int first = int(blockIdx.y) * kHeadColumns, j = first + column;
  const bool active = j < a.values;
  const int64_t matrix = int64_t(a.keys) * a.values;
  const global<float> memory = a.piece_state ? a.piece_state + int64_t(blockIdx.x) * matrix
                                             : a.state[a.pieces.sequences.slot(sequence)] + head * matrix;
  Column<R> S(memory + (active ? j * a.value_stride : 0), a.key_stride, part, active ? a.keys : 0);
  if (!kOnlyState) S.load();
  Column<R> decay(a.piece_decay, 1, part, a.keys);  // the product over the piece
  if constexpr (kOnlyState) decay.each([](float& d, int) { d = 1; });

  constexpr int kTokens = HeadShared<Rule, R>::kTokens;
  for (int chunk = begin; chunk < end; chunk += kTokens) {
    const int count = smaller(kTokens, end - chunk);
    barrier();
    stage_tokens(a, s, chunk, count, head, first);
    barrier();
    for (int t = 0; t < count; ++t) {
      const HeadToken<Rule, R> x{s, a.rule, t, chunk + t, head};
      const float y = key_sum(a.rule.step(S, x, s.v[t][column]));
      if (!kOnlyState && part == 0) s.y[t][column] = y;
      if constexpr (kOnlyState) decay.each([&](float& d, int i) { d *= a.rule.decay(x, i); });
    }
    if constexpr (!kOnlyState) {
      barrier();
      for (int i = int(threadIdx.x); i < count * kHeadColumns; i += kHeadThreads) {
        const int t = i / kHeadColumns, to = first + i % kHeadColumns;
        if (to < a.values) a.y[chunk + t][int64_t(head) * a.values + to] = s.y[t][i % kHeadColumns];
      }
    }
  }
  if (kOnlyState || !a.piece_state) S.store();
  if constexpr (kOnlyState) {
    if (blockIdx.y == 0 && column == 0)
      decay.each([&](float& d, int i) {
        if (i < a.keys) a.piece_decay[int64_t(blockIdx.x) * a.keys + i] = d;
      });
  }
}

// One value of one S: turns the pieces' states into those before each piece, and leaves the sequence's last.
template <class Rule>
__global__ void __launch_bounds__(kHeadThreads) join_head_pieces(HeadArgs<Rule> a) {
  const int64_t per_sequence = int64_t(a.nheads) * a.keys * a.values;
  const int64_t index = int64_t(blockIdx.x) * kHeadThreads + threadIdx.x;
  if (index >= per_sequence * a.pieces.sequences.count) return;
  const int s = int(index / per_sequence);
  const int64_t i = index % per_sequence, key = i / a.values;  // (head, key, value), as piece_decay's (head, key)
  const global<float> state = a.state[a.pieces.sequences.slot(s)];
  float h = state[i];
  for (int64_t piece = a.pieces.first(s); a.pieces.begin(int(piece), s) < a.pieces.sequences.end(s); ++piece) {
    const float own = a.piece_state[piece * per_sequence + i];
    a.piece_state[piece * per_sequence + i] = h;
    h = a.piece_decay[piece * a.nheads * a.keys + key] * h + own;
  }
  state[i] = h;
}

template <class Rule, int R>
void launch_heads(HeadArgs<Rule> a) {
  constexpr int64_t kShortestPiece = 64;
  const Sequences& sequences = a.pieces.sequences;
  const int64_t tiles = ceil_div(a.values, kHeadColumns);
  if constexpr (Rule::kDiagonal && R > 0) {
    a.pieces.size = int(split_over_time(sequences, a.nheads * tiles, kShortestPiece));
    if (a.pieces.size < sequences.tokens) {
      const int64_t heads = a.pieces.count() * a.nheads;
      const Scratch<float> states(heads * a.keys * a.values), decays(heads * a.keys);
      a.piece_state = states.data(), a.piece_decay = decays.data();
      launch(head_recurrence<Rule, R, true>, {heads, tiles}, kHeadThreads, a);
      launch(join_head_pieces<Rule>, {ceil_div(int64_t(sequences.count) * a.nheads * a.keys * a.values, kHeadThreads)},
             kHeadThreads, a);
      return launch(head_recurrence<Rule, R, false>, {heads, tiles}, kHeadThreads, a);
    }
  }
  launch(head_recurrence<Rule, R, false>, {a.pieces.count() * a.nheads, tiles}, kHeadThreads, a);
}

// S is (key, value), or with value_major (value, key).
template <class Rule>
void launch_heads(const Rule& rule, const Tensor& v, const Tensor& y, const Tensor& state, const Sequences& sequences,
                  int keys, bool value_major = false) {
  const int values = int(v[2]);
  const HeadArgs<Rule> a{rule,
                         v,
                         y,
                         state,
                         Pieces(sequences, sequences.tokens),
                         int(y[1]),
                         keys,
                         values,
                         value_major ? 1 : values,
                         value_major ? keys : 1};
  if (keys <= 4 * kKeyLanes) return launch_heads<Rule, 4>(a);
  if (keys <= 8 * kKeyLanes) return launch_heads<Rule, 8>(a);
  if (keys <= 16 * kKeyLanes) return launch_heads<Rule, 16>(a);
  if (keys <= kMostKeys) return launch_heads<Rule, 32>(a);
  launch_heads<Rule, 0>(a);
}

}  // namespace statespace::cuda
