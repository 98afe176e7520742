#include "ops/wkv6.h"

#include "backend/kernels.h"
#include "kernels/halved_pairs.h"
#include "kernels/head_state.h"
#include "kernels/kept_rows.h"
#include "kernels/product.h"

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
  if (!varies) exp_row(op.w.row(c.head), decay, keys);
  float* state = op.state.row(sequences.slot(c.sequence)) + at * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    throw_if_stopped(c.stop);
    if (varies) exp_row(op.w.row(t) + at, decay, keys);
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

// Inside a chunk, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   y_t = S_0ᵀ D_{t-1..} r_t + Σ_{s<t} (r_t·D_{t-1..s+1} k_s) v_s + bonus_t v_t
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s v_sᵀ
struct Chunk {
  using Pairs = HalvedPairs<1, 1>;
  static constexpr int64_t kSize = Pairs::kTokens;
  Chunk(const Wkv6& op, float* scratch)
      : op(op),
        keys(op.k[2]),
        values(op.v[2]),
        stride(padded(values)),
        tokens(keys, scratch),
        S(scratch + Pairs::floats(keys)),
        v(S + whole_tiles(keys) * stride) {}
  static int64_t scratch(const Wkv6& op) {
    return Pairs::floats(op.k[2]) + (whole_tiles(op.k[2]) + kSize) * padded(op.v[2]);
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head * keys;
    const bool varies = op.w.rank == 3;
    const float *r = op.r.row(begin) + at, *k = op.k.row(begin) + at, *u = op.u.row(head);
    const float* w = varies ? op.w.row(begin) + at : op.w.row(head);
    const int64_t r_stride = op.r.row_stride, k_stride = op.k.row_stride, w_stride = varies ? op.w.row_stride : 0;
    tokens.fill(n, [=](int64_t t, int64_t i, auto... lanes) {
      const F decay = exp(load(w + t * w_stride + i, lanes...)), key = load(k + t * k_stride + i, lanes...);
      const F seen = load(r + t * r_stride + i, lanes...);
      return Pairs::Channels{decay, {seen}, {key}, {seen * load(u + i, lanes...) * key}};
    });
    copy_rows(op.v, begin, n, head * values, values, v, stride);

    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {tokens.x[0], tokens.width, 1}, S, stride);
      tile.add_lower({tokens.pairs[0][0], kSize, 1}, v, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale_rows(tokens.decay());
      tile.add(n, {tokens.y[0], 1, tokens.width}, v, stride);
      tile.write(S, stride);
    });
  }

  const Wkv6& op;
  const int64_t keys, values, stride;
  Pairs tokens;  // x: r; y: k
  float* S;      // (key, value)
  float* v;      // (chunk, value)
};

}  // namespace

template <>
void run(const Wkv6& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.r[0]);
  const int64_t nheads = op.v[1], keys = op.k[2], values = op.v[2];
  if (!op.chunked())
    return each_head_columns<4>(cx, sequences.count, nheads, values, [&]<int N>(const HeadColumns& c, int worker) {
      recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
    });
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return each_block_of_head<4>(s, head, values, [&]<int N>(const HeadColumns& c) {
        recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
      });
    Chunk chunk(op, cx.local<float>(worker, Chunk::scratch(op)));
    float* state = op.state.row(sequences.slot(s)) + head * keys * values;
    read_rows(state, keys, values, chunk.S, chunk.stride);
    each_chunk(cx, sequences, s, Chunk::kSize, [&](int64_t begin, int64_t n) {
      if (op.keeps() && kept_states::has(sequences.begin(s), begin))
        keep_rows(chunk.S, chunk.stride, keys, values, op.states, begin, head);
      chunk.step(begin, n, head);
    });
    write_rows(chunk.S, chunk.stride, keys, values, state);
  });
}

}  // namespace statespace::STATESPACE_ISA
