#pragma once
// SSD's parts: the time steps of one head, what all heads of a group share in a block of tokens, and the products of
// one head with them. States are held transposed, (d_state, headdim), so that every product reads contiguous rows.

#include "core/context.h"
#include "isa/math.h"
#include "kernels/prefetch_bytes.h"
#include "kernels/rate.h"
#include "kernels/ssd_tile.h"
#include "ops/ssd.h"

namespace statespace::STATESPACE_ISA::ssd {

// Row `token` of x, B or C from `offset` on, as f32: in place, or converted into `copy`.
inline const float* f32_row(const Tensor& t, int64_t token, int64_t offset, int64_t count, float* copy) {
  const int64_t at = token * t.row_stride + offset;
  auto convert = [&](const auto* from) {
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes) store(copy + i, load(from + i));
    if (i < count) store(copy + i, load(from + i, int(count - i)), int(count - i));
    return copy;
  };
  if (t.dtype == DType::bf16) return convert(t.as<bf16_t>() + at);
  if (t.dtype == DType::f16) return convert(t.as<f16_t>() + at);
  return t.f32() + at;
}

// out (rows, width) = the given tokens' values, zeros behind the last of them.
inline void copy_rows(const Tensor& t, int64_t token, int64_t rows, int64_t offset, int64_t count, float* out,
                      int64_t width) {
  for (int64_t r = 0; r < rows; ++r, out += width) {
    const float* row = f32_row(t, token + r, offset, count, out);
    if (row != out) std::memcpy(out, row, count * sizeof(float));
    for (int64_t i = count; i < width; ++i) out[i] = 0.f;
  }
}

// The dimensions, and those of the buffers: whole tiles and vectors.
struct Sizes {
  int64_t nheads, headdim, ngroups, d_state, chunk;
  int64_t p, n, q;  // headdim, d_state and chunk, padded

  Sizes(const Ssd& op, int64_t chunk)
      : nheads(op.x[1]),
        headdim(op.x[2]),
        ngroups(op.B[1]),
        d_state(op.B[2]),
        chunk(chunk),
        p(round_up(headdim, kLanes)),
        n(padded(d_state)),
        q(padded(chunk)) {}
  int64_t group(int64_t head) const { return head / (nheads / ngroups); }
};

// Hands out parts of one block of scratch.
struct Arena {
  float* next;
  float* take(int64_t floats) {
    float* p = next;
    next += round_up(floats, 16);
    return p;
  }
};

// The time steps of one head over consecutive tokens. Sums of dt·A grow without bound while their differences matter to
// the last digit: they are held in two floats, and only differences ≤ 0 are exponentiated. A step beyond -kReset leaves
// nothing of a state, whatever it is: such steps, infinite ones among them, count as one of -kReset, so that they hide
// no digits of the others.
struct Times {
  static constexpr double kReset = 1000;

  float *dt, *high, *low;  // (width) each

  // Room for a vector that begins at any token.
  static int64_t width(int64_t tokens) { return round_up(tokens, kLanes) + kLanes; }
  static int64_t floats(int64_t tokens) { return 3 * width(tokens); }
  Times(float* memory, int64_t tokens) : dt(memory), high(memory + width(tokens)), low(memory + 2 * width(tokens)) {}

  void fill(const Ssd& op, int64_t head, int64_t token, int64_t count) {
    const int64_t width = Times::width(count);
    const float bias = op.dt_bias ? op.dt_bias.f32()[head] : 0.f;
    for (int64_t i = 0; i < count; ++i) dt[i] = op.dt.row(token + i)[head] + bias;
    for (int64_t i = count; i < width; ++i) dt[i] = 0.f;
    for (int64_t i = 0; i < width; i += kLanes) {
      const F step = op.dt_softplus ? softplus(load(dt + i)) : load(dt + i);
      store(dt + i, min(set(op.dt_max), max(set(op.dt_min), step)));
    }
    double total = 0;
    const double A = finite_rate(op.A.f32()[head]);
    for (int64_t i = 0; i < count; ++i) {
      const double step = dt[i] * A;
      total += step < -kReset ? -kReset : step;
      high[i] = float(total), low[i] = float(total - high[i]);
    }
    for (int64_t i = count; i < width; ++i) high[i] = high[count - 1], low[i] = low[count - 1];
  }
  // The decay from after token s to after the tokens t, t + 1, … of one vector.
  F decay(int64_t s, int64_t t) const { return exp((load(high + t) - set(high[s])) + (load(low + t) - set(low[s]))); }
  // From before the first token.
  F decay_from_start(int64_t t) const { return exp(load(high + t) + load(low + t)); }
  // To after token `last`.
  F decay_to(int64_t last, int64_t t) const {
    return exp((set(high[last]) - load(high + t)) + (set(low[last]) - load(low + t)));
  }
};

// (headdim, d_state) <-> (n, p)
inline void load_state(const Sizes& z, const float* state, float* S) {
  transpose(state, z.d_state, z.d_state, z.headdim, S, z.p, z.p);
  std::memset(S + z.d_state * z.p, 0, (z.n - z.d_state) * z.p * sizeof(float));
}
inline void store_state(const Sizes& z, const float* S, float* state) {
  transpose(S, z.p, z.headdim, z.d_state, state, z.d_state, z.d_state);
}

inline void store_from_start(const Times& times, int64_t first, int64_t count, float* decay) {
  for (int64_t t = 0; t < count; t += kLanes) store(decay + t, times.decay_from_start(first + t));
}

// Gᵀ (keys, queries) = B Cᵀ, from B (keys, n) and Cᵀ (d_state, queries); with `causal`, only what is on or below
// the diagonal of a block against itself is needed and computed.
inline void group_scores(const Sizes& z, const float* B, const float* Ct, int64_t keys, int64_t queries, bool causal,
                         float* G) {
  for (int64_t s = 0; s < keys; s += kTileHeight)
    column_panels(causal ? s / kLanes * kLanes : 0, round_up(queries, kLanes), [&]<int kVectors>(int64_t t) {
      Tile<kVectors> tile;
      each_vector<kVectors>([&](int m, int v) { tile[m][v] = zero(); });
      accumulate_rows<kVectors>(B + s * z.n, z.n, Ct + t, z.q, z.d_state, tile);
      each_vector<kVectors>([&](int m, int v) { store(G + (s + m) * z.q + t + v * kLanes, tile[m][v]); });
    });
}

// Mᵀ (keys, queries) = Gᵀ times the decay between key and query; anything where the key comes later. Key i of the block
// is token first_key + i of the times, query j is first_query + j.
inline void mask_scores(const Sizes& z, const float* G, const Times& times, int64_t first_key, int64_t keys,
                        int64_t first_query, int64_t queries, float* M) {
  for (int64_t s = 0; s < keys; ++s) {
    const int64_t diagonal = first_key + s - first_query;
    for (int64_t t = diagonal > 0 ? diagonal / kLanes * kLanes : 0; t < queries; t += kLanes)
      store(M + s * z.q + t, load(G + s * z.q + t) * times.decay(first_key + s, first_query + t));
  }
}

// X (tokens, p) = dt·x, and W = X decayed to after token `last` of the times.
template <class T>
inline void scale_inputs(const Ssd& op, const Sizes& z, int64_t head, int64_t token, int64_t first, int64_t count,
                         const Times& times, int64_t last, const T* x, float* X, float* W) {
  x += token * op.x.row_stride + head * z.headdim;
  alignas(64) float decay[kLanes];
  for (int64_t s = 0; s < count; ++s, x += op.x.row_stride, X += z.p, W += z.p) {
    if (s % kLanes == 0) store(decay, times.decay_to(last, first + s));
    const F dt = set(times.dt[first + s]), left = set(decay[s % kLanes]);
    auto columns = [&](int64_t i, auto... n) {
      const F v = dt * load(x + i, n...);
      store(X + i, v);
      store(W + i, left * v);
    };
    int64_t i = 0;
    for (; i + kLanes <= z.headdim; i += kLanes) columns(i);
    if (i < z.headdim) columns(i, int(z.headdim - i));
  }
}
inline void scale_inputs(const Ssd& op, const Sizes& z, int64_t head, int64_t token, int64_t first, int64_t count,
                         const Times& times, int64_t last, float* X, float* W) {
  if (op.x.dtype == DType::bf16)
    return scale_inputs(op, z, head, token, first, count, times, last, op.x.as<bf16_t>(), X, W);
  if (op.x.dtype == DType::f16)
    return scale_inputs(op, z, head, token, first, count, times, last, op.x.as<f16_t>(), X, W);
  scale_inputs(op, z, head, token, first, count, times, last, op.x.f32(), X, W);
}

// The rows of x and y that a head needs next, brought to L2 a few at a time while the matrix units are busy.
struct NextRows {
  const Ssd* op = nullptr;
  int64_t token = 0, count = 0, head = 0;
  void fetch(int64_t first, int64_t rows) const {
    if (!op) return;
    const int64_t headdim = op->x[2], size = op->x.dtype == DType::f32 ? 4 : 2;
    for (int64_t t = first; t < first + rows && t < count; ++t) {
      const char* x = op->x.as<char>() + ((token + t) * op->x.row_stride + head * headdim) * size;
      const char* y = op->y.as<char>() + ((token + t) * op->y.row_stride + head * headdim) * 4;
      prefetch_bytes(x, headdim * size), prefetch_bytes(y, headdim * 4);
    }
  }
};

// out (queries, p) = decay · C S, with S the state (n, p) before the times' first token and decay (queries) from there.
inline void read_state(const Sizes& z, const float* Ct, const float* S, const float* decay, int64_t queries, float* out,
                       const NextRows& next = {}) {
  for (int64_t t = 0; t < queries; t += kTileHeight) {
    next.fetch(t, kTileHeight);
    column_panels(0, z.p, [&]<int kVectors>(int64_t p) {
      Tile<kVectors> tile;
      each_vector<kVectors>([&](int m, int v) { tile[m][v] = zero(); });
      accumulate<kVectors>(Ct + t, z.q, S + p, z.p, z.d_state, tile);
      each_vector<kVectors>(
          [&](int m, int v) { store(out + (t + m) * z.p + p + v * kLanes, set(decay[t + m]) * tile[m][v]); });
    });
  }
}

// out (queries, p) += M X; with `causal`, queries and keys are the same tokens.
inline void read_inputs(const Sizes& z, const float* M, const float* X, int64_t keys, int64_t queries, bool causal,
                        float* out) {
  for (int64_t t = 0; t < queries; t += kTileHeight) {
    const int64_t before = causal ? t : keys;  // keys that all of the tile's queries see
    column_panels(0, z.p, [&]<int kVectors>(int64_t p) {
      Tile<kVectors> tile;
      each_vector<kVectors>([&](int m, int v) { tile[m][v] = load(out + (t + m) * z.p + p + v * kLanes); });
      accumulate<kVectors>(M + t, z.q, X + p, z.p, before, tile);
      if (causal) accumulate_lower<kVectors>(M + t * z.q + t, z.q, X + t * z.p + p, z.p, keys - t, tile);
      each_vector<kVectors>([&](int m, int v) { store(out + (t + m) * z.p + p + v * kLanes, tile[m][v]); });
    });
  }
}

// S (n, p) = decay · S + Bᵀ W
inline void update_state(const Sizes& z, const float* B, const float* W, int64_t keys, float decay, float* S) {
  for (int64_t n = 0; n < z.d_state; n += kTileHeight)
    column_panels(0, z.p, [&]<int kVectors>(int64_t p) {
      Tile<kVectors> tile;
      each_vector<kVectors>([&](int m, int v) { tile[m][v] = set(decay) * load(S + (n + m) * z.p + p + v * kLanes); });
      accumulate<kVectors>(B + n, z.n, W + p, z.p, keys, tile);
      each_vector<kVectors>([&](int m, int v) { store(S + (n + m) * z.p + p + v * kLanes, tile[m][v]); });
    });
}

// y = (out + D x) · silu(z) for `count` tokens of one head; out is (count, p).
template <class X>
inline void finish_rows(const Ssd& op, const Sizes& sizes, int64_t head, int64_t token, int64_t count, const X* x,
                        const float* out) {
  const int64_t headdim = sizes.headdim, at = head * headdim;
  const float* per_channel = op.D && op.D.rank == 2 ? op.D.row(head) : nullptr;
  const F per_head = op.D && !per_channel ? set(op.D.f32()[head]) : zero();
  const bool skip = bool(op.D);
  x += token * op.x.row_stride + at;
  for (int64_t t = 0; t < count; ++t, x += op.x.row_stride, out += sizes.p) {
    const float* gate = op.z ? op.z.row(token + t) + at : nullptr;
    float* y = op.y.row(token + t) + at;
    auto columns = [&](int64_t i, auto... n) {
      F sum = load(out + i, n...);
      if (skip) sum = fma(per_channel ? load(per_channel + i, n...) : per_head, load(x + i, n...), sum);
      if (gate) sum = sum * silu(load(gate + i, n...));
      store(y + i, sum, n...);
    };
    int64_t i = 0;
    for (; i + kLanes <= headdim; i += kLanes) columns(i);
    if (i < headdim) columns(i, int(headdim - i));
  }
}
inline void finish_rows(const Ssd& op, const Sizes& z, int64_t head, int64_t token, int64_t count, const float* out) {
  if (op.x.dtype == DType::bf16) return finish_rows(op, z, head, token, count, op.x.as<bf16_t>(), out);
  if (op.x.dtype == DType::f16) return finish_rows(op, z, head, token, count, op.x.as<f16_t>(), out);
  finish_rows(op, z, head, token, count, op.x.f32(), out);
}

// Step by step, one head of one sequence; state (headdim, d_state) in place.
void recurrent(const Ssd& op, const Sizes& z, int64_t head, int64_t begin, int64_t end, float* state, Arena arena,
               const Context& cx);
inline int64_t recurrent_floats(const Sizes& z) { return 2 * z.d_state + 2 * z.headdim + Times::floats(1) + 80; }

}  // namespace statespace::STATESPACE_ISA::ssd
