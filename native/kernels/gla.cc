#include "ops/gla.h"

#include "backend/kernels.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/step_decay.h"
#include "kernels/token_groups.h"

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
    throw_if_stopped(c.stop);
    decay_row(op.g.row(t) + at, decay, keys);
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

// Inside a group, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} k_s) v_s) / sqrt(key),   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s
//   v_sᵀ
// With q_t decayed by its own token, these are pairs of a group with k.
struct Chunk {
  using Tokens = TokenGroups<1>;
  static constexpr int64_t kSize = Tokens::kTokens;
  Chunk(const Gla& op, float* scratch) : op(op), keys(op.k[2]), values(op.v[2]), tokens(keys, scratch) {}
  static int64_t scratch(const Gla& op) { return Tokens::floats(op.k[2]); }

  void step(int64_t begin, int64_t n, int64_t head, Columns part, float* S, const Ahead& next) {
    const int64_t head_kv = head / (op.q[1] / op.k[1]), at = head_kv * keys;
    const F root = set(1 / std::sqrt(float(keys)));
    const float *q = op.q.row(begin) + head * keys, *k = op.k.row(begin) + at, *g = op.g.row(begin) + at;
    const int64_t q_stride = op.q.row_stride, k_stride = op.k.row_stride, g_stride = op.g.row_stride;
    tokens.fill(n, [=](int64_t t, int64_t i, auto... lanes) {
      const F decay = natural_step_decay(load(g + t * g_stride + i, lanes...)),
              key = load(k + t * k_stride + i, lanes...);
      const F query = root * load(q + t * q_stride + i, lanes...);
      return Tokens::Channels{decay, {decay * query}, key, query * key};
    });

    Fetch fetch = rows_of(next, part);
    each_panel(S, keys, part, [&]<int N>(int64_t column, float* panel) {
      write_columns<N>(tokens, op.v, op.y, begin, n, head_kv * values + column, head * values + column, values - column,
                       panel, [&] { fetch.line(); });
    });
    fetch.rest();
  }

  // The rows of the next step.
  Fetch rows_of(const Ahead& next, Columns part) const {
    const int64_t head_kv = next.head / (op.q[1] / op.k[1]);
    Fetch fetch(next);
    fetch.add(op.q, next.head * keys, keys);
    fetch.add(op.k, head_kv * keys, keys);
    fetch.add(op.g, head_kv * keys, keys);
    fetch.add(op.v, head_kv * values + part.begin, part.end - part.begin);
    fetch.add(op.y, next.head * values + part.begin, part.end - part.begin);
    return fetch;
  }

  const Gla& op;
  const int64_t keys, values;
  Tokens tokens;  // x: D q / sqrt(key); y: k
};

}  // namespace

template <>
void run(const Gla& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t keys = op.k[2];
  run_pieces<Chunk, 4>(op, cx, sequences, op.q[1], [&]<int N>(const HeadColumns& c, int worker) {
    recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
  });
}

}  // namespace statespace::STATESPACE_ISA
