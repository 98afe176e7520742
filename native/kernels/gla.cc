#include "ops/gla.h"

#include "backend/kernels.h"
#include "kernels/head_state.h"

namespace statespace::STATESPACE_ISA {
namespace {

template <int N>
void recurrent(const Gla& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  const int64_t keys = op.k[2], values = op.v[2], head_kv = c.head / (op.q[1] / op.k[1]), at = head_kv * keys;
  const F root = set(1 / std::sqrt(float(keys)));
  float* decay = S + keys * N * kLanes;  // (key)
  float* state = op.state.row(sequences.slot(c.sequence)) + c.head * keys * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    exp_row(op.g.row(t) + at, decay, keys);
    const float *q = op.q.row(t) + c.head * keys, *k = op.k.row(t) + at;
    const Block<N> v = load_block<N>(op.v.row(t) + head_kv * values + c.first, c.count);
    Block<N> y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      float* row = S + i * N * kLanes;
      const Block<N> s = fma(set(k[i]), v, set(decay[i]) * load_block<N>(row));
      y = fma(set(q[i]), s, y);
      store_block(row, s);
    }
    store_block(op.y.row(t) + c.head * values + c.first, root * y, c.count);
  }
  write_state<N>(S, keys, values, c.count, state);
}

}  // namespace

template <>
void run(const Gla& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t keys = op.k[2];
  each_head_columns<4>(cx, sequences.count, op.q[1], op.v[2], [&]<int N>(const HeadColumns& c, int worker) {
    recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
  });
}

}  // namespace statespace::STATESPACE_ISA
