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
  const F decay = set(exp_of(op.log_decay.f32()[c.head])), factor = set(op.scaling());
  float* state = op.state.row(sequences.slot(c.sequence)) + at * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  for (int64_t t = sequences.begin(c.sequence); t < sequences.end(c.sequence); ++t) {
    throw_if_stopped(c.stop);
    const float *q = op.q.row(t) + at, *k = op.k.row(t) + at;
    const Block<N> v = load_block<N>(op.v.row(t) + c.head * values + c.first, c.count);
    Block<N> y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      float* row = S + i * N * kLanes;
      const Block<N> s = fma(set(k[i]), v, decay * load_block<N>(row));
      y = fma(set(q[i]), s, y);
      store_block(row, s);
    }
    store_block(op.y.row(t) + c.head * values + c.first, factor * y, c.count);
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
        key_stride(padded(keys)),
        stride(padded(values)),
        factor(op.scaling()),
        S(scratch) {
    const int64_t rows = whole_tiles(tokens);
    k = S + keys * stride;
    q = k + whole_tiles(keys) * width, qk = q + rows * key_stride;
    v = qk + rows * width, y = v + rows * stride;
    power = y + rows * stride + kRows + 2 * width;
    const float log_decay = op.log_decay.f32()[head];
    for (int64_t i = -2 * width; i < 0; ++i) power[i] = log_decay * float(-i);
    power[0] = 0;  // also where the decay is e^-∞
    exp_row(power - 2 * width, power - 2 * width, 2 * width + 1);
    clear(power + 1, width + kLanes);
  }
  static int64_t scratch(const Retention& op, int64_t tokens) {
    const int64_t width = padded(tokens), stride = padded(op.v[2]);
    return whole_tiles(op.k[2]) * (stride + width) + whole_tiles(tokens) * (width + padded(op.k[2]) + 2 * stride) +
           kRows + 3 * width + 1 + kLanes;
  }

  // q (n, key) of a block, scaled.
  void load_queries(int64_t begin, int64_t n) {
    copy_rows(op.q, begin, n, head * keys, keys, q, key_stride);
    scale(q, factor, n * key_stride);
  }
  // k (key, n), v (n, value) of a block.
  void load_keys(int64_t begin, int64_t n) {
    copy_transposed(op.k, begin, n, head * keys, keys, k, width);
    copy_rows(op.v, begin, n, head * values, values, v, stride);
  }

  // qk = q kᵀ ∘ γ^{t-s} inside a block, for s ≤ t.
  void pairs(int64_t n) {
    each_lower_tile(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, k, width);
      tile.times(power, -1);
      tile.write(qk, width);
    });
  }

  // y_t = γ^{t+1} S_0ᵀ q_t + Σ_s qk_ts v_s for a block that starts right behind the state.
  void write_y(int64_t begin, int64_t n) {
    pairs(n);
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, S, stride);
      tile.scale_rows(power - 1, -1);
      tile.add_lower({qk, width, 1}, v, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
  }

  // The same in parts, for a block further on: y_t = γ^{t+1} before S_0ᵀ q_t,
  void from_state(int64_t n, float before) {
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, S, stride);
      tile.scale_rows(power - 1, -1);
      tile.scale(before);
      tile.write(y, stride);
    });
  }
  // y += (q kᵀ ∘ γ^{t-s}) v for a whole block of n_keys keys before this one, `between` = γ^(tokens in between),
  void across(int64_t n, int64_t n_keys, float between) {
    each_tile(n, n_keys, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, key_stride, 1}, k, width);
      tile.times(power - n_keys, -1);
      tile.scale(between);
      tile.write(qk, width);
    });
    add_product(n, values, n_keys, {qk, width, 1}, v, stride, y, stride);
  }
  // and the block itself.
  void finish(int64_t begin, int64_t n) {
    pairs(n);
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.read(y, stride);
      tile.add_lower({qk, width, 1}, v, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
  }

  // S = γ^n S + Σ_s γ^{n-1-s} k_s v_sᵀ; spoils v.
  void advance(int64_t n) {
    for (int64_t s = 0; s < n; ++s) scale(v + s * stride, power[s - (n - 1)], stride);
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale(power[-n]);
      tile.add(n, {k, width, 1}, v, stride);
      tile.write(S, stride);
    });
  }

  void read(const float* state) { read_rows(state, keys, values, S, stride); }
  void write(float* state) const { write_rows(S, stride, keys, values, state); }

  const Retention& op;
  const int64_t head, keys, values, width, key_stride, stride;
  const float factor;
  float* S;      // (key, value)
  float* k;      // (key, tokens)
  float* q;      // (tokens, key)
  float* qk;     // (tokens, tokens)
  float *v, *y;  // (tokens, value)
  float* power;  // power[-i] = γ^i for i up to twice the tokens, 0 for i < 0: row t of γ^{t-s} begins at power[-t]
};

// γ^n
float decay_over(float log_decay, int64_t n) { return n > 0 ? exp_of(log_decay * float(n)) : 1; }

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
    each_chunk(cx, sequences, s, size, [&](int64_t begin, int64_t n) {
      b.load_queries(begin, n);
      b.load_keys(begin, n);
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
      b.load_queries(begin, n);
      b.from_state(n, decay_over(log_decay, begin - first));
      for (int64_t key = first; key < begin; key += kParallelTokens) {
        cx.check_stop();
        b.load_keys(key, kParallelTokens);
        b.across(n, kParallelTokens, decay_over(log_decay, begin - key - kParallelTokens));
      }
      b.load_keys(begin, n);
      b.finish(begin, n);
    });
  }
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    Blocks b(op, kParallelTokens, head, cx.local<float>(worker, scratch));
    b.read(state_of(op, sequences, s, head));
    each_chunk(cx, sequences, s, kParallelTokens, [&](int64_t begin, int64_t n) {
      b.load_keys(begin, n);
      b.advance(n);
    });
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
