#include "ops/wkv6.h"

#include "backend/kernels.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/step_decay.h"
#include "kernels/token_groups.h"

namespace statespace::STATESPACE_ISA {
namespace {

// r · (u ∘ k): the weight of a token's own value.
float bonus(const float* r, const float* u, const float* k, int64_t n) {
  F s = zero();
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = n - i < kLanes ? int(n - i) : kLanes;
    s = fma(load(r + i, m) * load(u + i, m), load(k + i, m), s);
  }
  return sum(s);
}

template <int N>
void recurrent(const Wkv6& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  const int64_t keys = op.k[2], values = op.v[2], at = c.head * keys;
  float* decay = S + keys * N * kLanes;  // (key)
  const bool varies = op.w.rank == 3;
  if (!varies) decay_row(op.w.row(c.head), decay, keys);
  float* state = op.state.row(sequences.slot(c.sequence)) + at * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    throw_if_stopped(c.stop);
    if (varies) decay_row(op.w.row(t) + at, decay, keys);
    const float *r = op.r.row(t) + at, *k = op.k.row(t) + at;
    const Block<N> v = load_block<N>(op.v.row(t) + c.head * values + c.first, c.count);
    Block<N> y = set(bonus(r, op.u.row(c.head), k, keys)) * v;
    for (int64_t i = 0; i < keys; ++i) {
      float* row = S + i * N * kLanes;
      const Block<N> s = load_block<N>(row);
      y = fma(set(r[i]), s, y);
      store_block(row, fma(set(k[i]), v, set(decay[i]) * s));
    }
    store_block(op.y.row(t) + c.head * values + c.first, y, c.count);
  }
  write_state<N>(S, keys, values, c.count, state);
}

// Inside a group, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   y_t = S_0ᵀ D_{t-1..} r_t + Σ_{s<t} (r_t·D_{t-1..s+1} k_s) v_s + bonus_t v_t
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s v_sᵀ
// These are pairs of r with k, and bonus_t what a token gives for itself.
struct Chunk {
  using Tokens = TokenGroups<1>;
  static constexpr int64_t kSize = Tokens::kTokens;
  Chunk(const Wkv6& op, float* scratch) : op(op), keys(op.k[2]), values(op.v[2]), tokens(keys, scratch) {}
  static int64_t scratch(const Wkv6& op) { return Tokens::floats(op.k[2]); }

  void step(int64_t begin, int64_t n, int64_t head, Columns part, float* S, const Ahead& next) {
    const int64_t at = head * keys, columns = head * values;
    const bool varies = op.w.rank == 3;
    const float *r = op.r.row(begin) + at, *k = op.k.row(begin) + at, *u = op.u.row(head);
    const float* w = varies ? op.w.row(begin) + at : op.w.row(head);
    const int64_t r_stride = op.r.row_stride, k_stride = op.k.row_stride, w_stride = varies ? op.w.row_stride : 0;
    tokens.fill(n, [=](int64_t t, int64_t i, auto... lanes) {
      const F decay = natural_step_decay(load(w + t * w_stride + i, lanes...)),
              key = load(k + t * k_stride + i, lanes...);
      const F seen = load(r + t * r_stride + i, lanes...);
      return Tokens::Channels{decay, {seen}, key, seen * load(u + i, lanes...) * key};
    });

    Fetch fetch = rows_of(next, part);
    each_panel(S, keys, part, [&]<int N>(int64_t column, float* panel) {
      write_columns<N>(tokens, op.v, op.y, begin, n, columns + column, columns + column, values - column, panel,
                       [&] { fetch.line(); });
    });
    fetch.rest();
  }

  // The rows of the next step.
  Fetch rows_of(const Ahead& next, Columns part) const {
    Fetch fetch(next);
    for (const Tensor* t : {&op.r, &op.k}) fetch.add(*t, next.head * keys, keys);
    if (op.w.rank == 3) fetch.add(op.w, next.head * keys, keys);
    for (const Tensor* t : {&op.v, &op.y}) fetch.add(*t, next.head * values + part.begin, part.end - part.begin);
    return fetch;
  }

  const Wkv6& op;
  const int64_t keys, values;
  Tokens tokens;  // x: r; y: k
};

}  // namespace

template <>
void run(const Wkv6& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.r[0]);
  const int64_t keys = op.k[2];
  run_pieces<Chunk, 4>(op, cx, sequences, op.v[1], [&]<int N>(const HeadColumns& c, int worker) {
    recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
  });
}

}  // namespace statespace::STATESPACE_ISA
