#include "ops/gated_delta_rule.h"

#include "backend/kernels.h"
#include "kernels/delta_by_key.h"
#include "kernels/head_chunk.h"
#include "kernels/head_state.h"
#include "kernels/product.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Vectors of a block of columns: the recurrence holds four blocks in registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kMaxVectors = 2;
#else
constexpr int kMaxVectors = 4;
#endif

// Tokens of a chunk: the triangular solve grows with it, the passes over the state shrink.
constexpr int64_t kTokens = 32;

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
    const float *q = op.q.row(t) + at, *k = op.k.row(t) + at;
    F decay = set(1);
    if constexpr (kByKey)
      exp_row(op.g.row(t) + c.head * keys, decays, keys);
    else if (op.g)
      decay = set(exp_of(op.g.row(t)[c.head]));
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
    change = set(op.beta.row(t)[c.head]) * (v - held);
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

// Inside a chunk, with S_0 at its start, D_ts the product of the decays of tokens s+1 … t and D_t of all up to t:
//   change_t = β_t (v_t - D_t S_0ᵀ k_t - Σ_{s<t} D_ts (k_t·k_s) change_s)
//   y_t = (D_t S_0ᵀ q_t + Σ_{s≤t} D_ts (q_t·k_s) change_s) / sqrt(key),   S_n = D_n S_0 + Σ_s D_ns k_s change_sᵀ
struct Chunk {
  Chunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), key_stride(padded(keys)), stride(padded(values)), S(scratch) {
    kt = S + keys * stride;
    k = kt + whole_tiles(keys) * kWidth, q = k + kRowsOfChunk * key_stride;
    kk = q + kRowsOfChunk * key_stride, qk = kk + kRowsOfChunk * kWidth, decay = qk + kRowsOfChunk * kWidth;
    change = decay + kRowsOfChunk * kWidth;
    from_start = change + kRowsOfChunk * stride;
    beta = from_start + kWidth, minus_beta = beta + kWidth, g = minus_beta + kWidth;
    unit = g + 2 * kWidth;
    clear(unit - kWidth, 2 * kWidth + kLanes);
    unit[0] = 1;
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    const int64_t key_stride = padded(op.k[2]), stride = padded(op.v[2]);
    return whole_tiles(op.k[2]) * (stride + kWidth) + kRowsOfChunk * (2 * key_stride + 3 * kWidth + stride) +
           6 * kWidth + kLanes;
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    copy_rows(op.q, begin, n, at, keys, q, key_stride);
    copy_rows(op.k, begin, n, at, keys, k, key_stride);
    decays(begin, n, head);
    scale(q, 1 / std::sqrt(float(keys)), n * key_stride);
    copy_transposed(op.k, begin, n, at, keys, kt, kWidth);
    const Strided q_rows{q, key_stride, 1}, k_rows{k, key_stride, 1};

    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, k_rows, kt, kWidth);
      tile.times(decay, kWidth);
      tile.scale_rows(minus_beta);
      tile.write(kk, kWidth);
    });
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, q_rows, kt, kWidth);
      tile.times(decay, kWidth);
      tile.write(qk, kWidth);
    });
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, k_rows, S, stride);
      tile.scale_rows(from_start);
      tile.subtract_from(op.v.row(begin) + head * values, op.v.row_stride, values);
      tile.scale_rows(beta);
      tile.solve_unit_lower({kk, kWidth, 1}, change, stride);
      tile.write(change, stride);
    });
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, q_rows, S, stride);
      tile.scale_rows(from_start);
      tile.add_lower({qk, kWidth, 1}, change, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });

    for (int64_t s = 0; s < n; ++s) scale(change + s * stride, decay[(n - 1) * kWidth + s], stride);
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale(from_start[n - 1]);
      tile.add(n, {kt, kWidth, 1}, change, stride);
      tile.write(S, stride);
    });
  }

  // decay (t, s) = D_ts on and below the diagonal; from_start (t) = D_t; beta (t) and its negative.
  void decays(int64_t begin, int64_t n, int64_t head) {
    for (int64_t t = 0; t < n; ++t) {
      g[t] = op.g ? op.g.row(begin + t)[head] : 0;
      beta[t] = op.beta.row(begin + t)[head], minus_beta[t] = -beta[t];
    }
    exp_row(g, g, n);
    for (int64_t s = 0; s < n; s += kLanes) {
      F row = zero();
      for (int64_t t = 0; t < n; ++t) {
        row = fma(set(g[t]), row, load(unit + s - t));
        store(decay + t * kWidth + s, row);
      }
    }
    for (int64_t t = 0; t < n; ++t) from_start[t] = t ? g[t] * from_start[t - 1] : g[t];
  }

  static constexpr int64_t kWidth = kTokens < kLanes ? kLanes : kTokens;
  static constexpr int64_t kRowsOfChunk = whole_tiles(kTokens);
  const GatedDeltaRule& op;
  const int64_t keys, values, key_stride, stride;
  float* S;                                   // (key, value)
  float* kt;                                  // (key, chunk)
  float *k, *q;                               // (chunk, key)
  float *kk, *qk, *decay;                     // (chunk, chunk)
  float* change;                              // (chunk, value)
  float *from_start, *beta, *minus_beta, *g;  // (chunk)
  float* unit;                                // zeros around unit[0] = 1: row t of the unit matrix begins at unit[-t]
};

// One head of a sequence.
template <class C, int64_t kSize>
void chunks(const GatedDeltaRule& op, Context& cx, const Sequences& sequences, int64_t s, int64_t head,
            float* scratch) {
  C chunk(op, scratch);
  float* state = op.state.row(sequences.slot(s)) + head * chunk.keys * chunk.values;
  read_rows(state, chunk.keys, chunk.values, chunk.S, chunk.stride);
  each_chunk(cx, sequences, s, kSize, [&](int64_t begin, int64_t n) { chunk.step(begin, n, head); });
  write_rows(chunk.S, chunk.stride, chunk.keys, chunk.values, state);
}

}  // namespace

template <>
void run(const GatedDeltaRule& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t nheads = op.v[1], values = op.v[2];
  if (!op.chunked())
    return each_head_columns<kMaxVectors>(
        cx, sequences.count, nheads, values,
        [&]<int N>(const HeadColumns& c, int worker) { recurrent<N>(op, sequences, c, cx, worker); });
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return each_block_of_head<kMaxVectors>(
          s, head, values, [&]<int N>(const HeadColumns& c) { recurrent<N>(op, sequences, c, cx, worker); });
    if (op.decays_by_key())
      return chunks<DeltaByKeyChunk, kChunk>(op, cx, sequences, s, head,
                                             cx.local<float>(worker, DeltaByKeyChunk::scratch(op)));
    chunks<Chunk, kTokens>(op, cx, sequences, s, head, cx.local<float>(worker, Chunk::scratch(op)));
  });
}

}  // namespace statespace::STATESPACE_ISA
