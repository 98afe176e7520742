#include "ops/gated_delta_rule.h"

#include "backend/kernels.h"
#include "kernels/delta_chunk.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/step_decay.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Vectors of a block of columns: the recurrence holds four blocks in registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kMaxVectors = 2;
#else
constexpr int kMaxVectors = 4;
#endif

// S decays by key or as a whole, and a token's update of S is made while the next token reads it: one pass over S a
// token instead of two.
//   S = D (S + k change),   y = Sᵀ q + (k·q) change of the token's own change
template <int N, bool kByKey>
void recurrent(const GatedDeltaRule& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  constexpr int64_t kStride = N * kLanes;
  const int64_t keys = op.k[2], values = op.v[2], at = c.head / (op.v[1] / op.k[1]) * keys;
  const float root = 1 / std::sqrt(float(keys));
  float* decays = S + keys * kStride;  // (key)
  float* state = op.state.row(sequences.slot(c.sequence)) + c.head * keys * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  const int64_t begin = sequences.begin(c.sequence), end = sequences.end(c.sequence);
  if (begin == end) return;
  const float* before = op.k.row(begin) + at;
  Block<N> change = zero_block<N>();
  for (int64_t t = begin; t < end; ++t) {
    throw_if_stopped(c.stop);
    const float *q = op.q.row(t) + at, *k = op.k.row(t) + at;
    F decay = set(1);
    if constexpr (kByKey)
      decay_row(op.g.row(t) + c.head * keys, decays, keys);
    else if (op.g)
      decay = set(decay_of(op.g.row(t)[c.head]));
    Block<N> held = zero_block<N>(), y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      if constexpr (kByKey) decay = set(decays[i]);
      float* row = S + i * kStride;
      const Block<N> s = decay * fma(set(before[i]), change, load_block<N>(row));
      store_block(row, s);
      held = fma(set(k[i]), s, held);
      y = fma(set(q[i]), s, y);
    }
    const Block<N> v = load_block<N>(op.v.row(t) + c.head * values + c.first, c.count);
    const Block<N> innovation = v - held;
    if (op.innovations) store_block(op.innovations.row(t) + c.head * values + c.first, innovation, c.count);
    change = set(op.beta.row(t)[c.head]) * innovation;
    before = k;
    y = fma(set(dot(k, q, keys)), change, y);
    store_block(op.y.row(t) + c.head * values + c.first, set(root) * y, c.count);
  }
  for (int64_t i = 0; i < keys; ++i)
    store_block(S + i * kStride, fma(set(before[i]), change, load_block<N>(S + i * kStride)));
  write_state<N>(S, keys, values, c.count, state);
}

template <int N>
void recurrent(const GatedDeltaRule& op, const Sequences& sequences, const HeadColumns& c, Context& cx, int worker) {
  const int64_t keys = op.k[2];
  float* S = cx.local<float>(worker, keys * N * kLanes + padded(keys));
  op.decays_by_key() ? recurrent<N, true>(op, sequences, c, S) : recurrent<N, false>(op, sequences, c, S);
}

}  // namespace

template <>
void run(const GatedDeltaRule& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  auto run = [&]<class Chunk>() {
    run_pieces<Chunk, kMaxVectors>(op, cx, sequences, op.v[1], [&]<int N>(const HeadColumns& c, int worker) {
      recurrent<N>(op, sequences, c, cx, worker);
    });
  };
  op.decays_by_key() ? run.template operator()<DeltaChunk<true>>() : run.template operator()<DeltaChunk<false>>();
}

}  // namespace statespace::STATESPACE_ISA
