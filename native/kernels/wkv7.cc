#include "ops/wkv7.h"

#include "backend/kernels.h"
#include "kernels/decayed_pairs.h"
#include "kernels/head_state.h"
#include "kernels/kept_rows.h"
#include "kernels/product.h"
#include "kernels/step_decay.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Vectors of a block of columns: the recurrence holds four blocks in registers.
#if defined(STATESPACE_ISA_AVX2)
constexpr int kMaxVectors = 2;
#else
constexpr int kMaxVectors = 4;
#endif

// The op's state (value, key) as (key, columns) and back.
void read_transposed(const float* state, int64_t keys, int64_t columns, int64_t stride, float* S) {
  for (int64_t i = 0; i < keys; ++i)
    for (int64_t j = 0; j < stride; ++j) S[i * stride + j] = j < columns ? state[j * keys + i] : 0;
}
void write_transposed(const float* S, int64_t keys, int64_t columns, int64_t stride, float* state) {
  for (int64_t j = 0; j < columns; ++j)
    for (int64_t i = 0; i < keys; ++i) state[j * keys + i] = S[i * stride + j];
}

// A token's update of S, made while the next token reads it: one pass over S a token instead of two.
//   S = d S + b along + k v      (rows i of S; along = S a before the update)
template <int N>
struct Update {
  const float *d, *b, *k;
  Block<N> along, v;
  Block<N> row(const float* s, int64_t i) const {
    return fma(set(b[i]), along, fma(set(k[i]), v, set(d[i]) * load_block<N>(s)));
  }
};

template <int N>
void recurrent(const Wkv7& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  constexpr int64_t kStride = N * kLanes;
  const int64_t keys = op.k[2], values = op.v[2], at = c.head * keys, width = padded(keys);
  float* decay = S + keys * kStride;  // (2, key): this token's and the last one's
  float* decayed_r = decay + 2 * width;
  float* nothing = decayed_r + width;  // zeros (key)
  for (int64_t i = 0; i < keys; ++i) decay[width + i] = 1, nothing[i] = 0;
  float* state = op.state.row(sequences.slot(c.sequence)) + (c.head * values + c.first) * keys;
  read_transposed(state, keys, c.count, kStride, S);

  Update<N> update{decay + width, nothing, nothing, zero_block<N>(), zero_block<N>()};
  const int64_t begin = sequences.begin(c.sequence), end = sequences.end(c.sequence);
  for (int64_t t = begin; t < end; ++t) {
    throw_if_stopped(c.stop);
    const float *r = op.r.row(t) + at, *a = op.a.row(t) + at, *b = op.b.row(t) + at, *k = op.k.row(t) + at;
    float* d = decay + (t - begin) % 2 * width;
    decay_row(op.w.row(t) + at, d, keys);
    for (int64_t i = 0; i < keys; ++i) decayed_r[i] = d[i] * r[i];
    // y = S_t r = S_{t-1} (d r) + along (b·r) + v (k·r)
    Block<N> along = zero_block<N>(), y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      const Block<N> s = update.row(S + i * kStride, i);
      store_block(S + i * kStride, s);
      along = fma(set(a[i]), s, along);
      y = fma(set(decayed_r[i]), s, y);
    }
    update = {d, b, k, along, load_block<N>(op.v.row(t) + c.head * values + c.first, c.count)};
    y = fma(set(dot(b, r, keys)), along, fma(set(dot(k, r, keys)), update.v, y));
    store_block(op.y.row(t) + c.head * values + c.first, y, c.count);
  }
  for (int64_t i = 0; i < keys; ++i) store_block(S + i * kStride, update.row(S + i * kStride, i));
  write_transposed(S, keys, c.count, kStride, state);
}

// Tokens of a short sequence on rows [first, first + count) of the op's state in place: bringing it into the other
// layout takes as long as some steps. decay: (key).
void steps(const Wkv7& op, const Sequences& sequences, const HeadColumns& c, float* decay) {
  const int64_t keys = op.k[2], values = op.v[2], at = c.head * keys;
  float* state = op.state.row(sequences.slot(c.sequence)) + (c.head * values + c.first) * keys;
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    const float *r = op.r.row(t) + at, *a = op.a.row(t) + at, *b = op.b.row(t) + at, *k = op.k.row(t) + at;
    const float* v = op.v.row(t) + c.head * values + c.first;
    float* out = op.y.row(t) + c.head * values + c.first;
    decay_row(op.w.row(t) + at, decay, keys);
    for (int64_t j = 0; j < c.count; ++j) {
      float* S = state + j * keys;
      const F along = set(dot(S, a, keys)), value = set(v[j]);
      F y = zero();
      auto columns = [&](int64_t i, auto... n) {
        const F s = fma(load(b + i, n...), along, fma(load(k + i, n...), value, load(decay + i) * load(S + i, n...)));
        store(S + i, s, n...);
        y = fma(load(r + i, n...), s, y);
      };
      int64_t i = 0;
      for (; i + kLanes <= keys; i += kLanes) columns(i);
      if (i < keys) columns(i, int(keys - i));
      out[j] = sum(y);
    }
  }
}

// Inside a chunk, with T_0 = Sᵀ at its start, D_{t..s} the product of the decays of tokens s … t, and z_t = S_{t-1}
// a_t:
//   z_t = T_0ᵀ D_{t-1..} a_t + Σ_{s<t} (a_t·D_{t-1..s+1} b_s) z_s + (a_t·D_{t-1..s+1} k_s) v_s
//   y_t = T_0ᵀ D_{t..} r_t   + Σ_{s≤t} (r_t·D_{t..s+1} b_s) z_s   + (r_t·D_{t..s+1} k_s) v_s
//   T_n = D_{n..} T_0 + Σ_s D_{n..s+1} (b_s z_sᵀ + k_s v_sᵀ)
// With r_t decayed by its own token, both kinds of pairs below the diagonal have the form of wkv6's.
struct Chunk {
  Chunk(const Wkv7& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), width(padded(keys)), stride(padded(values)), S(scratch) {
    d = S + whole_tiles(keys) * stride;
    r = d + kLagged * width, a = r + kLagged * width;
    b = a + kLagged * width, k = b + kChunk * width;
    decay = k + kChunk * width;
    ab = decay + width + kRows;
    ak = ab + kChunk * kLagged, rb = ak + kChunk * kLagged, rk = rb + kChunk * kLagged;
    z = rk + kChunk * kLagged;
    v = z + whole_tiles(kChunk) * stride;
  }
  static int64_t scratch(const Wkv7& op) {
    const int64_t width = padded(op.k[2]), stride = padded(op.v[2]);
    return whole_tiles(op.k[2]) * stride + (3 * kLagged + 2 * kChunk + 1) * width + kRows + 4 * kChunk * kLagged +
           2 * whole_tiles(kChunk) * stride;
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head * keys;
    for (int64_t t = 0; t < n; ++t) decay_row(op.w.row(begin + t) + at, d + t * width, keys);
    copy_rows(op.r, begin, n, at, keys, r, width);
    copy_rows(op.a, begin, n, at, keys, a, width);
    copy_rows(op.b, begin, n, at, keys, b, width);
    copy_rows(op.k, begin, n, at, keys, k, width);
    copy_rows(op.v, begin, n, head * values, values, v, stride);

    for (int64_t t = 0; t < n; ++t) {
      rb[t * kLagged + t] = dot(r + t * width, b + t * width, keys);
      rk[t * kLagged + t] = dot(r + t * width, k + t * width, keys);
      scale_row(r + t * width, d + t * width, r + t * width, width);
    }
    decayed_pairs_of_two(a, r, d, b, n, width, decay, ab, rb);
    decayed_pairs_of_two(a, r, d, k, n, width, decay, ak, rk);
    decay_from_start(a, d, n, width, decay);
    decay_from_start(r, d, n, width, decay);
    decay_to_end(b, d, n, width);
    decay_to_end(k, d, n, width);
    multiply(begin, n, head);
  }

  // The chunk's products with the state, and of its values.
  [[gnu::flatten]] void multiply(int64_t begin, int64_t n, int64_t head) {
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {a, width, 1}, S, stride);
      tile.template add_lower<1>({ak, 1, kLagged}, v, stride);
      tile.solve_unit_lower({ab, 1, kLagged}, z, stride);
      tile.write(z, stride);
    });
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {r, width, 1}, S, stride);
      tile.add_lower({rb, 1, kLagged}, z, stride);
      tile.add_lower({rk, 1, kLagged}, v, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale_rows(decay);
      tile.add(n, {b, 1, width}, z, stride);
      tile.add(n, {k, 1, width}, v, stride);
      tile.write(S, stride);
    });
  }

  const Wkv7& op;
  const int64_t keys, values, width, stride;
  float* S;                  // (key, value)
  float *d, *r, *a, *b, *k;  // (chunk, key): decays; r, a later from the chunk's start; b, k later to its end
  float* decay;              // (key): of the whole chunk
  float *ab, *ak, *rb, *rk;  // (chunk, kLagged): the weight of z_s or v_s in z_t or y_t at (s, t ≥ s)
  float *z, *v;              // (chunk, value)
};

}  // namespace

template <>
void run(const Wkv7& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.r[0]);
  const int64_t nheads = op.v[1], keys = op.k[2], values = op.v[2];
  if (!op.chunked())
    return each_head_columns<kMaxVectors>(
        cx, sequences.count, nheads, values, [&]<int N>(const HeadColumns& c, int worker) {
          if (sequences.end(c.sequence) - sequences.begin(c.sequence) < kShort)
            return steps(op, sequences, c, cx.local<float>(worker, padded(keys)));
          recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes + 4 * padded(keys)));
        });
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return steps(op, sequences, {s, head, 0, values}, cx.local<float>(worker, padded(keys)));
    Chunk chunk(op, cx.local<float>(worker, Chunk::scratch(op)));
    float* state = op.state.row(sequences.slot(s)) + head * values * keys;
    read_transposed(state, keys, values, chunk.stride, chunk.S);
    each_chunk(cx, sequences, s, kChunk, [&](int64_t begin, int64_t n) {
      if (op.keeps() && kept_states::has(sequences.begin(s), begin))
        keep_rows(chunk.S, chunk.stride, keys, values, op.states, begin, head);
      chunk.step(begin, n, head);
    });
    write_transposed(chunk.S, keys, values, chunk.stride, state);
  });
}

}  // namespace statespace::STATESPACE_ISA
