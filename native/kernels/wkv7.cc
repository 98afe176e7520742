#include "ops/wkv7.h"

#include "backend/kernels.h"
#include "kernels/decayed_pairs.h"
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
    const float *r = op.r.row(t) + at, *a = op.a.row(t) + at, *b = op.b.row(t) + at, *k = op.k.row(t) + at;
    float* d = decay + (t - begin) % 2 * width;
    exp_row(op.w.row(t) + at, d, keys);
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
    exp_row(op.w.row(t) + at, decay, keys);
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
struct Chunk {
  Chunk(const Wkv7& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), width(padded(keys)), stride(padded(values)), S(scratch) {
    d = S + keys * stride;
    r = d + kChunk * width, a = r + kChunk * width, b = a + kChunk * width, k = b + kChunk * width;
    running = k + kChunk * width;
    ab = running + 2 * width;
    ak = ab + kChunk * kChunk, rb = ak + kChunk * kChunk, rk = rb + kChunk * kChunk;
    z = rk + kChunk * kChunk;
    v = z + kChunk * stride, y = v + kChunk * stride;
  }
  static int64_t scratch(const Wkv7& op) {
    const int64_t width = padded(op.k[2]), stride = padded(op.v[2]);
    return op.k[2] * stride + (5 * kChunk + 2) * width + 4 * kChunk * kChunk + 3 * kChunk * stride;
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head * keys;
    for (int64_t t = 0; t < n; ++t) exp_row(op.w.row(begin + t) + at, d + t * width, keys);
    pairs(begin, n, at);
    float* decay = running;
    for (int64_t i = 0; i < keys; ++i) decay[i] = 1;
    for (int64_t t = 0; t < n; ++t) {
      scale_row(op.a.row(begin + t) + at, decay, a + t * width, keys);
      scale_row(d + t * width, decay, decay, keys);
      scale_row(op.r.row(begin + t) + at, decay, r + t * width, keys);
    }
    float* rest = running + width;
    for (int64_t i = 0; i < keys; ++i) rest[i] = 1;
    for (int64_t s = n - 1; s >= 0; --s) {
      scale_row(op.b.row(begin + s) + at, rest, b + s * width, keys);
      scale_row(op.k.row(begin + s) + at, rest, k + s * width, keys);
      scale_row(d + s * width, rest, rest, keys);
    }
    copy_rows(op.v, begin, n, head * values, values, v, stride);

    clear(z, n * stride), clear(y, n * stride);
    add_product(n, values, keys, {a, width, 1}, S, stride, z, stride);
    add_product(n, values, n, {ak, kChunk, 1}, v, stride, z, stride, true);
    solve_unit_lower(n, stride, ab, kChunk, z);
    add_product(n, values, keys, {r, width, 1}, S, stride, y, stride);
    add_product(n, values, n, {rb, kChunk, 1}, z, stride, y, stride, true);
    add_product(n, values, n, {rk, kChunk, 1}, v, stride, y, stride, true);
    for (int64_t i = 0; i < keys; ++i) scale(S + i * stride, decay[i], stride);
    add_product(keys, values, n, {b, 1, width}, z, stride, S, stride);
    add_product(keys, values, n, {k, 1, width}, v, stride, S, stride);
    write_rows(y, stride, op.y, begin, n, head * values, values);
  }

  // ab, ak (below the diagonal), rb, rk (with it): (kChunk, kChunk) each.
  void pairs(int64_t begin, int64_t n, int64_t at) {
    float *db = running, *dk = running + width;
    clear(ab, n * kChunk), clear(ak, n * kChunk), clear(rb, n * kChunk), clear(rk, n * kChunk);
    for (int64_t s = 0; s < n; ++s) {
      copy_row(op.b.row(begin + s) + at, db, keys);
      copy_row(op.k.row(begin + s) + at, dk, keys);
      for (int64_t t = s; t < n; ++t) {
        if (t > s) {
          ab[t * kChunk + s] = dot(op.a.row(begin + t) + at, db, keys);
          ak[t * kChunk + s] = dot(op.a.row(begin + t) + at, dk, keys);
          scale_row(d + t * width, db, db, keys);
          scale_row(d + t * width, dk, dk, keys);
        }
        rb[t * kChunk + s] = dot(op.r.row(begin + t) + at, db, keys);
        rk[t * kChunk + s] = dot(op.r.row(begin + t) + at, dk, keys);
      }
    }
  }

  const Wkv7& op;
  const int64_t keys, values, width, stride;
  float* S;                  // (key, value)
  float *d, *r, *a, *b, *k;  // (chunk, key): decays; r, a from the chunk's start, b, k to its end
  float* running;            // (2, key)
  float *ab, *ak, *rb, *rk;
  float *z, *v, *y;  // (chunk, value)
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
    each_chunk(sequences, s, kChunk, [&](int64_t begin, int64_t n) { chunk.step(begin, n, head); });
    write_transposed(chunk.S, keys, values, chunk.stride, state);
  });
}

}  // namespace statespace::STATESPACE_ISA
