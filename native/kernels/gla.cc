#include "ops/gla.h"

#include "backend/kernels.h"
#include "kernels/decayed_pairs.h"
#include "kernels/head_state.h"
#include "kernels/product.h"

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

// Inside a chunk, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} k_s) v_s) / sqrt(key),   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s
//   v_sᵀ
// With q_t decayed by its own token, the pairs below the diagonal have the form of wkv6's.
struct Chunk {
  Chunk(const Gla& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), width(padded(keys)), stride(padded(values)), S(scratch) {
    d = S + whole_tiles(keys) * stride;
    q = d + kLagged * width, k = q + kLagged * width;
    decay = k + kChunk * width;
    qk = decay + width + kRows;
    v = qk + kChunk * kLagged;
  }
  static int64_t scratch(const Gla& op) {
    const int64_t width = padded(op.k[2]), stride = padded(op.v[2]);
    return whole_tiles(op.k[2]) * stride + (2 * kLagged + kChunk + 1) * width + kRows + kChunk * (kLagged + stride);
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t head_kv = head / (op.q[1] / op.k[1]);
    for (int64_t t = 0; t < n; ++t) exp_row(op.g.row(begin + t) + head_kv * keys, d + t * width, keys);
    copy_rows(op.q, begin, n, head * keys, keys, q, width);
    copy_rows(op.k, begin, n, head_kv * keys, keys, k, width);
    copy_rows(op.v, begin, n, head_kv * values, values, v, stride);

    const float root = 1 / std::sqrt(float(keys));
    for (int64_t t = 0; t < n; ++t) {
      scale(q + t * width, root, width);
      qk[t * kLagged + t] = dot(q + t * width, k + t * width, keys);
      scale_row(q + t * width, d + t * width, q + t * width, width);
    }
    decayed_pairs(q, d, k, n, width, decay, qk);
    decay_from_start(q, d, n, width, decay);
    decay_to_end(k, d, n, width);

    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, width, 1}, S, stride);
      tile.add_lower({qk, 1, kLagged}, v, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale_rows(decay);
      tile.add(n, {k, 1, width}, v, stride);
      tile.write(S, stride);
    });
  }

  const Gla& op;
  const int64_t keys, values, width, stride;
  float* S;          // (key, value)
  float *d, *q, *k;  // (chunk, key): decays; q, later from the chunk's start; k, later to its end
  float* decay;      // (key): of the whole chunk
  float* qk;         // (chunk, kLagged): the weight of v_s in y_t at (s, t ≥ s)
  float* v;          // (chunk, value)
};

}  // namespace

template <>
void run(const Gla& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t nheads = op.q[1], keys = op.k[2], values = op.v[2];
  auto steps = [&]<int N>(const HeadColumns& c, int worker) {
    recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + padded(keys)));
  };
  if (!op.chunked()) return each_head_columns<4>(cx, sequences.count, nheads, values, steps);
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return each_block_of_head<4>(s, head, values,
                                   [&]<int N>(const HeadColumns& c) { steps.template operator()<N>(c, worker); });
    Chunk chunk(op, cx.local<float>(worker, Chunk::scratch(op)));
    float* state = op.state.row(sequences.slot(s)) + head * keys * values;
    read_rows(state, keys, values, chunk.S, chunk.stride);
    each_chunk(cx, sequences, s, kChunk, [&](int64_t begin, int64_t n) { chunk.step(begin, n, head); });
    write_rows(chunk.S, chunk.stride, keys, values, state);
  });
}

}  // namespace statespace::STATESPACE_ISA
