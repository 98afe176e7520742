#include "ops/gated_delta_rule.h"

#include "backend/kernels.h"
#include "kernels/delta_by_key.h"
#include "kernels/head_chunk.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Vectors of a block of columns: the recurrence holds four blocks in registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kMaxVectors = 2;
#else
constexpr int kMaxVectors = 4;
#endif

// Tokens of a chunk: the triangular solve and what must lie in the first-level cache grow with it, the passes over the
// state shrink. 32 take 5 % longer.
constexpr int64_t kTokens = 16;

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

// Inside a chunk, with S_0 at its start, D_ts the product of the decays of tokens s+1 … t and D_t of all up to t:
//   e_t = v_t - D_t S_0ᵀ k_t - Σ_{s<t} β_s D_ts (k_t·k_s) e_s
//   y_t = (D_t S_0ᵀ q_t + Σ_{s≤t} β_s D_ts (q_t·k_s) e_s) / sqrt(key),   S_n = D_n S_0 + Σ_s β_s D_ns k_s e_sᵀ
struct Chunk {
  static constexpr int64_t kSize = kTokens;
  Chunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), key_stride(padded(keys)), kt(scratch) {
    k = kt + whole_tiles(keys) * kWidth, q = k + kRowsOfChunk * key_stride;
    kk = q + kRowsOfChunk * key_stride, qk = kk + kRowsOfChunk * kWidth, decay = qk + kRowsOfChunk * kWidth;
    innovations = decay + kRowsOfChunk * kWidth;
    from_start = innovations + kRowsOfChunk * kPanel;
    beta = from_start + kWidth, g = beta + kWidth;
    unit = g + 2 * kWidth;
    clear(unit - kWidth, 2 * kWidth + kLanes);
    unit[0] = 1;
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    return whole_tiles(op.k[2]) * kWidth + kRowsOfChunk * (2 * padded(op.k[2]) + 3 * kWidth + kPanel) + 5 * kWidth +
           kLanes;
  }

  void step(int64_t begin, int64_t n, int64_t head, float* S, const Ahead& next) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const F root = set(1 / std::sqrt(float(keys)));
    for (int64_t t = 0; t < n; ++t) {
      const float *from_q = op.q.row(begin + t) + at, *from_k = op.k.row(begin + t) + at;
      auto channels = [&](int64_t i, auto... m) {
        store(q + t * key_stride + i, root * load(from_q + i, m...));
        store(k + t * key_stride + i, load(from_k + i, m...));
      };
      int64_t i = 0;
      for (; i + kLanes <= keys; i += kLanes) channels(i);
      if (i < keys) channels(i, int(keys - i));
    }
    decays(begin, n, head);
    Tensor rows;
    rows.data = k, rows.row_stride = key_stride;
    copy_transposed(rows, 0, n, 0, keys, kt, kWidth);

    pairs(n);
    Fetch fetch = rows_of(op, next);
    each_panel(S, keys, values,
               [&]<int N>(int64_t column, float* panel) { columns<N>(begin, n, head, column, panel, fetch); });
    fetch.rest();
  }

  // kk = -β D ∘ k kᵀ and qk = β D ∘ q kᵀ, on and below the diagonal.
  [[gnu::flatten]] void pairs(int64_t n) {
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {k, key_stride, 1}, kt, kWidth);
      tile.times(decay, kWidth);
      tile.scale(-1);
      tile.write(kk, kWidth);
    });
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, kt, kWidth);
      tile.times(decay, kWidth);
      tile.write(qk, kWidth);
    });
  }

  // The chunk's part in the panel of S from `column` on, and those columns of y.
  template <int N>
  [[gnu::flatten]] void columns(int64_t begin, int64_t n, int64_t head, int64_t column, float* S, Fetch& fetch) {
    const float* v = op.v.row(begin) + head * values + column;
    float* y = op.y.row(begin) + head * values + column;
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {k, key_stride, 1}, S, kPanel, [&] { fetch.line(); });
      tile.scale_rows(from_start);
      tile.subtract_from(v, op.v.row_stride, values - column);
      tile.solve_unit_lower({kk, kWidth, 1}, innovations, kPanel);
      tile.write(innovations, kPanel);
      if (op.innovations)
        tile.write(op.innovations.row(begin) + head * values + column, op.innovations.row_stride, values - column);
    });
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, S, kPanel);
      tile.scale_rows(from_start);
      tile.add_lower({qk, kWidth, 1}, innovations, kPanel);
      tile.write(y, op.y.row_stride, values - column);
    });
    for (int64_t s = 0; s < n; ++s) scale(innovations + s * kPanel, decay[(n - 1) * kWidth + s], N * kLanes);
    each_tile_of_panel<N>(keys, [&](auto place) {
      fetch_next_panel(S, keys, place.row);
      Tile tile(place);
      tile.read(S, kPanel);
      tile.scale(from_start[n - 1]);
      tile.add(n, {kt, kWidth, 1}, innovations, kPanel);
      tile.write(S, kPanel);
    });
  }

  // decay (t, s) = β_s D_ts on and below the diagonal; from_start (t) = D_t.
  void decays(int64_t begin, int64_t n, int64_t head) {
    for (int64_t t = 0; t < n; ++t) {
      g[t] = op.g ? op.g.row(begin + t)[head] : 0;
      beta[t] = op.beta.row(begin + t)[head];
    }
    exp_row(g, g, n);
    for (int64_t s = 0; s < n; s += kLanes) {
      F row = zero();
      for (int64_t t = 0; t < n; ++t) {
        row = fma(set(g[t]), row, set(beta[t]) * load(unit + s - t));
        store(decay + t * kWidth + s, row);
      }
    }
    for (int64_t t = 0; t < n; ++t) from_start[t] = t ? g[t] * from_start[t - 1] : g[t];
  }

  static constexpr int64_t kWidth = kTokens < kLanes ? kLanes : kTokens;
  static constexpr int64_t kRowsOfChunk = whole_tiles(kTokens);
  const GatedDeltaRule& op;
  const int64_t keys, values, key_stride;
  float* kt;                     // (key, chunk)
  float *k, *q;                  // (chunk, key)
  float *kk, *qk, *decay;        // (chunk, chunk)
  float* innovations;            // (chunk, kPanel)
  float *from_start, *beta, *g;  // (chunk)
  float* unit;                   // zeros around unit[0] = 1: row t of the unit matrix begins at unit[-t]
};

}  // namespace

template <>
void run(const GatedDeltaRule& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t nheads = op.v[1], keys = op.k[2], values = op.v[2];
  if (!op.chunked())
    return each_head_columns<kMaxVectors>(
        cx, sequences.count, nheads, values,
        [&]<int N>(const HeadColumns& c, int worker) { recurrent<N>(op, sequences, c, cx, worker); });
  const HeadPieces pieces(cx, sequences.count, nheads, keys, values);
  cx.parallel_for(pieces.count, [&](int64_t i, int worker) {
    const int64_t s = pieces.sequence(i), begin = sequences.begin(s), end = sequences.end(s);
    if (end - begin < kShort) {
      for (int64_t h = pieces.head(i); h < pieces.end_head(i); ++h)
        each_block_of_head<kMaxVectors>(
            s, h, values, [&]<int N>(const HeadColumns& c) { recurrent<N>(op, sequences, c, cx, worker); });
      return;
    }
    auto chunks = [&]<class C>() {
      float* panels = cx.local<float>(worker, pieces.floats() + C::scratch(op));
      C chunk(op, panels + pieces.floats());
      pieces.run(chunk, cx, i, begin, end, op.state.row(sequences.slot(s)), panels, op.keeps() ? op.states : Tensor());
    };
    op.decays_by_key() ? chunks.template operator()<DeltaByKeyChunk>() : chunks.template operator()<Chunk>();
  });
}

}  // namespace statespace::STATESPACE_ISA
