#include "ops/gated_delta_rule.h"

#include "backend/kernels.h"
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

// A token's update of S, made while the next token reads it: one pass over S a token instead of two.
//   S = decay S + k change
template <int N>
struct Update {
  const float* k;
  float decay;
  Block<N> change;
  Block<N> row(const float* s, int64_t i) const { return fma(set(k[i]), change, set(decay) * load_block<N>(s)); }
};

template <int N>
void recurrent(const GatedDeltaRule& op, const Sequences& sequences, const HeadColumns& c, float* S) {
  constexpr int64_t kStride = N * kLanes;
  const int64_t keys = op.k[2], values = op.v[2], at = c.head / (op.v[1] / op.k[1]) * keys;
  const float root = 1 / std::sqrt(float(keys));
  float* state = op.state.row(sequences.slot(c.sequence)) + c.head * keys * values + c.first;
  read_state<N>(state, keys, values, c.count, S);
  const int64_t begin = sequences.begin(c.sequence), end = sequences.end(c.sequence);
  if (begin == end) return;
  Update<N> update{op.k.row(begin) + at, 1, zero_block<N>()};
  for (int64_t t = begin; t < end; ++t) {
    const float *q = op.q.row(t) + at, *k = op.k.row(t) + at;
    Block<N> held = zero_block<N>(), y = zero_block<N>();
    for (int64_t i = 0; i < keys; ++i) {
      const Block<N> s = update.row(S + i * kStride, i);
      store_block(S + i * kStride, s);
      held = fma(set(k[i]), s, held);
      y = fma(set(q[i]), s, y);
    }
    const float e = exp_of(op.g.row(t)[c.head]);
    const F decay = set(e), beta = set(op.beta.row(t)[c.head]);
    const Block<N> v = load_block<N>(op.v.row(t) + c.head * values + c.first, c.count);
    update = {k, e, beta * (v - decay * held)};
    // y = S_tᵀ q = e^g S_{t-1}ᵀ q + (k·q) change
    y = fma(set(dot(k, q, keys) * root), update.change, set(root) * (decay * y));
    store_block(op.y.row(t) + c.head * values + c.first, y, c.count);
  }
  for (int64_t i = 0; i < keys; ++i) store_block(S + i * kStride, update.row(S + i * kStride, i));
  write_state<N>(S, keys, values, c.count, state);
}

// Inside a chunk, with S_0 at its start, D_ts the product of the decays of tokens s+1 … t and D_t of all up to t:
//   change_t = β_t (v_t - D_t S_0ᵀ k_t - Σ_{s<t} D_ts (k_t·k_s) change_s)
//   y_t = (D_t S_0ᵀ q_t + Σ_{s≤t} D_ts (q_t·k_s) change_s) / sqrt(key),   S_n = D_n S_0 + Σ_s D_ns k_s change_sᵀ
struct Chunk {
  Chunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), stride(padded(values)), S(scratch) {
    k = S + keys * stride;
    kk = k + keys * kWidth, qk = kk + kTokens * kWidth, decay = qk + kTokens * kWidth;
    from_start = decay + kTokens * kWidth;
    change = from_start + kWidth, y = change + kTokens * stride;
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    return op.k[2] * (padded(op.v[2]) + kWidth) + (3 * kTokens + 1) * kWidth + 2 * kTokens * padded(op.v[2]);
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const Strided q_rows{op.q.row(begin) + at, op.q.row_stride, 1}, k_rows{op.k.row(begin) + at, op.k.row_stride, 1};
    decays(begin, n, head);
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t s = 0; s < kWidth; ++s) k[i * kWidth + s] = s < n ? k_rows.data[s * k_rows.row + i] : 0;
    clear(kk, n * kWidth), clear(qk, n * kWidth), clear(change, n * stride), clear(y, n * stride);
    add_product(n, n, keys, k_rows, k, kWidth, kk, kWidth);
    add_product(n, n, keys, q_rows, k, kWidth, qk, kWidth);
    add_product(n, values, keys, k_rows, S, stride, change, stride);
    add_product(n, values, keys, q_rows, S, stride, y, stride);

    const float root = 1 / std::sqrt(float(keys));
    for (int64_t t = 0; t < n; ++t) {
      const float beta = op.beta.row(begin + t)[head];
      for (int64_t s = 0; s <= t; ++s) {
        kk[t * kWidth + s] *= -beta * decay[t * kWidth + s];
        qk[t * kWidth + s] *= root * decay[t * kWidth + s];
      }
      clear(qk + t * kWidth + t + 1, kWidth - t - 1);
      const float* v = op.v.row(begin + t) + head * values;
      for (int64_t j = 0; j < values; j += kLanes) {
        float* held = change + t * stride + j;
        const F value = load(v + j, values - j < kLanes ? int(values - j) : kLanes);
        store(held, set(beta) * fnma(set(from_start[t]), load(held), value));
      }
      scale(y + t * stride, root * from_start[t], stride);
    }
    solve_unit_lower(n, stride, kk, kWidth, change);
    add_product(n, values, n, {qk, kWidth, 1}, change, stride, y, stride, true);

    for (int64_t i = 0; i < keys; ++i) scale(S + i * stride, from_start[n - 1], stride);
    for (int64_t s = 0; s < n; ++s) scale(change + s * stride, decay[(n - 1) * kWidth + s], stride);
    add_product(keys, values, n, {k, kWidth, 1}, change, stride, S, stride);
    write_rows(y, stride, op.y, begin, n, head * values, values);
  }

  // decay (t, s) = D_ts on and below the diagonal; from_start (t) = D_t.
  void decays(int64_t begin, int64_t n, int64_t head) {
    for (int64_t t = 0; t < n; ++t) {
      const float e = exp_of(op.g.row(begin + t)[head]);
      for (int64_t s = 0; s < t; ++s) decay[t * kWidth + s] = e * decay[(t - 1) * kWidth + s];
      decay[t * kWidth + t] = 1;
      from_start[t] = t ? e * from_start[t - 1] : e;
    }
  }

  static constexpr int64_t kWidth = kTokens < kLanes ? kLanes : kTokens;
  const GatedDeltaRule& op;
  const int64_t keys, values, stride;
  float* S;                // (key, value)
  float* k;                // (key, chunk)
  float *kk, *qk, *decay;  // (chunk, chunk)
  float* from_start;       // (chunk)
  float *change, *y;       // (chunk, value)
};

}  // namespace

template <>
void run(const GatedDeltaRule& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.q[0]);
  const int64_t nheads = op.v[1], keys = op.k[2], values = op.v[2];
  if (!op.chunked())
    return each_head_columns<kMaxVectors>(cx, sequences.count, nheads, values,
                                          [&]<int N>(const HeadColumns& c, int worker) {
                                            recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes));
                                          });
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads;
    if (sequences.end(s) - sequences.begin(s) < kShort)
      return each_block_of_head<kMaxVectors>(s, head, values, [&]<int N>(const HeadColumns& c) {
        recurrent<N>(op, sequences, c, cx.local<float>(worker, keys * N * kLanes));
      });
    Chunk chunk(op, cx.local<float>(worker, Chunk::scratch(op)));
    float* state = op.state.row(sequences.slot(s)) + head * keys * values;
    read_rows(state, keys, values, chunk.S, chunk.stride);
    each_chunk(sequences, s, kTokens, [&](int64_t begin, int64_t n) { chunk.step(begin, n, head); });
    write_rows(chunk.S, chunk.stride, keys, values, state);
  });
}

}  // namespace statespace::STATESPACE_ISA
