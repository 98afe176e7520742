#include "ops/retention.h"

#include "backend/kernels.h"
#include "kernels/head_chunk.h"
#include "kernels/head_state.h"
#include "kernels/product.h"

namespace statespace::STATESPACE_ISA {
namespace {

template <int N>
void recurrent(const Retention& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  const int64_t keys = op.k[2], values = op.v[2], at = c.head * keys;
  const F decay = set(exp_of(op.log_decay.f32()[c.head])), root = set(1 / std::sqrt(float(keys)));
  float* state = op.state.row(sequences.slot(c.sequence)) + at * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    const float *q = op.q.row(t) + at, *k = op.k.row(t) + at;
    const Block<N> v = load_block<N>(op.v.row(t) + c.head * values + c.first, c.count);
    Block<N> y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      float* row = S + i * N * kLanes;
      const Block<N> s = fma(set(k[i]), v, decay * load_block<N>(row));
      y = fma(set(q[i]), s, y);
      store_block(row, s);
    }
    store_block(op.y.row(t) + c.head * values + c.first, root * y, c.count);
  }
  write_state<N>(S, keys, values, c.count, state);
}

// Tokens of a block of the parallel form, and the most of a chunk: beyond, a chunk's matrix of pairs leaves the cache.
constexpr int64_t kParallelTokens = 64, kMaxTokens = 256;

// Blocks of up to `tokens` tokens of one head.
struct Blocks {
  Blocks(const Retention& op, int64_t tokens, int64_t head, float* scratch)
      : op(op),
        head(head),
        keys(op.k[2]),
        values(op.v[2]),
        width(padded(tokens)),
        stride(padded(values)),
        root(1 / std::sqrt(float(keys))),
        S(scratch) {
    k = S + keys * stride;
    qk = k + keys * width;
    v = qk + tokens * width, y = v + tokens * stride;
    power = y + tokens * stride;
    const float log_decay = op.log_decay.f32()[head];
    for (int64_t i = 0; i <= tokens; ++i) power[i] = exp_of(log_decay * float(i));
  }
  static int64_t scratch(const Retention& op, int64_t tokens) {
    const int64_t width = padded(tokens), stride = padded(op.v[2]);
    return op.k[2] * (stride + width) + tokens * (width + 2 * stride) + tokens + 1;
  }

  Strided rows(const Tensor& t, int64_t begin) const { return {t.row(begin) + head * keys, t.row_stride, 1}; }

  // k (key, n), v (n, value) of a block.
  void load_keys(int64_t begin, int64_t n) {
    const Strided from = rows(op.k, begin);
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t s = 0; s < width; ++s) k[i * width + s] = s < n ? from.data[s * from.row + i] : 0;
    copy_rows(op.v, begin, n, head * values, values, v, stride);
  }

  // y_t = γ^{t+1} S_0ᵀ q_t / sqrt(key): what the state gives to a block that starts right behind it, γ^before sooner.
  void from_state(const float* state, int64_t begin, int64_t n, float before) {
    clear(y, n * stride);
    add_product(n, values, keys, rows(op.q, begin), state, stride, y, stride);
    for (int64_t t = 0; t < n; ++t) scale(y + t * stride, root * before * power[t + 1], stride);
  }

  // y += (q kᵀ ∘ γ^{t-s}) v / sqrt(key) inside a block.
  void inside(int64_t begin, int64_t n) {
    clear(qk, n * width);
    add_product(n, n, keys, rows(op.q, begin), k, width, qk, width);
    for (int64_t t = 0; t < n; ++t)
      for (int64_t s = 0; s < width; ++s) qk[t * width + s] = s <= t ? qk[t * width + s] * root * power[t - s] : 0;
    add_product(n, values, n, {qk, width, 1}, v, stride, y, stride, true);
  }

  // The same for queries behind a whole block of keys of n_keys tokens, `between` = γ^(tokens in between).
  void across(int64_t begin, int64_t n, int64_t n_keys, float between) {
    clear(qk, n * width);
    add_product(n, n_keys, keys, rows(op.q, begin), k, width, qk, width);
    for (int64_t t = 0; t < n; ++t)
      for (int64_t s = 0; s < n_keys; ++s) qk[t * width + s] *= root * power[t + 1] * between * power[n_keys - 1 - s];
    add_product(n, values, n_keys, {qk, width, 1}, v, stride, y, stride);
  }

  // S = γ^n S + Σ_s γ^{n-1-s} k_s v_sᵀ; spoils v.
  void advance(int64_t n) {
    for (int64_t i = 0; i < keys; ++i) scale(S + i * stride, power[n], stride);
    for (int64_t s = 0; s < n; ++s) scale(v + s * stride, power[n - 1 - s], stride);
    add_product(keys, values, n, {k, width, 1}, v, stride, S, stride);
  }

  void read(const float* state) { read_rows(state, keys, values, S, stride); }
  void write(float* state) const { write_rows(S, stride, keys, values, state); }
  void write_y(int64_t begin, int64_t n) const { write_rows(y, stride, op.y, begin, n, head * values, values); }

  const Retention& op;
  const int64_t head, keys, values, width, stride;
  const float root;
  float* S;      // (key, value)
  float* k;      // (key, tokens)
  float* qk;     // (tokens, tokens)
  float *v, *y;  // (tokens, value)
  float* power;  // γ^0 … γ^tokens
};

float* state_of(const Retention& op, const Sequences& sequences, int64_t s, int64_t head) {
  return op.state.row(sequences.slot(s)) + head * op.k[2] * op.v[2];
}

void chunkwise(const Retention& op, const Sequences& sequences, Context& cx) {
  const int64_t nheads = op.q[1], size = op.chunk_size < kMaxTokens ? op.chunk_size : kMaxTokens;
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return each_block_of_head<4>(s, head, op.v[2], [&]<int N>(const HeadColumns& c) {
        recurrent<N>(op, sequences, c, cx.local<float>(worker, op.k[2] * N * kLanes));
      });
    Blocks b(op, size, head, cx.local<float>(worker, Blocks::scratch(op, size)));
    b.read(state_of(op, sequences, s, head));
    each_chunk(sequences, s, size, [&](int64_t begin, int64_t n) {
      b.load_keys(begin, n);
      b.from_state(b.S, begin, n, 1);
      b.inside(begin, n);
      b.write_y(begin, n);
      b.advance(n);
    });
    b.write(state_of(op, sequences, s, head));
  });
}

// Every block of queries against all keys before it, independent of the other blocks; then the states.
void parallel(const Retention& op, const Sequences& sequences, Context& cx) {
  const int64_t nheads = op.q[1], scratch = Blocks::scratch(op, kParallelTokens);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t first = sequences.begin(s), end = sequences.end(s);
    cx.parallel_for(ceil_div(end - first, kParallelTokens) * nheads, [&](int64_t i, int worker) {
      const int64_t head = i % nheads, begin = first + i / nheads * kParallelTokens;
      const int64_t n = end - begin < kParallelTokens ? end - begin : kParallelTokens;
      const float log_decay = op.log_decay.f32()[head];
      Blocks b(op, kParallelTokens, head, cx.local<float>(worker, scratch));
      b.read(state_of(op, sequences, s, head));
      b.from_state(b.S, begin, n, exp_of(log_decay * float(begin - first)));
      for (int64_t key = first; key < begin; key += kParallelTokens) {
        b.load_keys(key, kParallelTokens);
        b.across(begin, n, kParallelTokens, exp_of(log_decay * float(begin - key - kParallelTokens)));
      }
      b.load_keys(begin, n);
      b.inside(begin, n);
      b.write_y(begin, n);
    });
  }
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    Blocks b(op, kParallelTokens, head, cx.local<float>(worker, scratch));
    b.read(state_of(op, sequences, s, head));
    each_chunk(sequences, s, kParallelTokens, [&](int64_t begin, int64_t n) { b.load_keys(begin, n), b.advance(n); });
    b.write(state_of(op, sequences, s, head));
  });
}

}  // namespace

template <>
void run(const Retention& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t keys = op.k[2];
  if (op.mode == Retention::kChunkwise) return chunkwise(op, sequences, cx);
  if (op.mode == Retention::kParallel) return parallel(op, sequences, cx);
  each_head_columns<4>(cx, sequences.count, op.q[1], op.v[2], [&]<int N>(const HeadColumns& c, int worker) {
    recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes));
  });
}

}  // namespace statespace::STATESPACE_ISA
