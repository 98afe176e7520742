#pragma once
// A chunk of the delta rule whose decay differs by key (Kimi delta attention).
#include "kernels/decayed_pairs.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {

// The rows of a step's successor.
inline Fetch rows_of(const GatedDeltaRule& op, const Ahead& next) {
  const int64_t keys = op.k[2], values = op.v[2], at = next.head / (op.v[1] / op.k[1]) * keys;
  Fetch fetch(next);
  fetch.add(op.q, at, keys);
  fetch.add(op.k, at, keys);
  if (op.decays_by_key()) fetch.add(op.g, next.head * keys, keys);
  fetch.add(op.v, next.head * values, values);
  fetch.add(op.y, next.head * values, values);
  return fetch;
}

// Inside a chunk, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   change_t = β_t (v_t - S_0ᵀ D_{t..} k_t - Σ_{s<t} (k_t·D_{t..s+1} k_s) change_s)
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} k_s) change_s) / sqrt(key)
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s change_sᵀ
// With q_t and k_t decayed by their own token, the pairs below the diagonal have the form of wkv6's.
struct DeltaByKeyChunk {
  static constexpr int64_t kSize = kChunk;
  DeltaByKeyChunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), width(padded(keys)), d(scratch) {
    q = d + kLagged * width, k_seen = q + kLagged * width, k = k_seen + kLagged * width;
    decay = k + kChunk * width;
    kk = decay + width + kRows, qk = kk + kChunk * kLagged;
    beta = qk + kChunk * kLagged, minus_beta = beta + kLagged;
    change = minus_beta + kLagged;
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    return (3 * kLagged + kChunk + 1) * padded(op.k[2]) + kRows + 2 * (kChunk + 1) * kLagged +
           whole_tiles(kChunk) * kPanel;
  }

  void step(int64_t begin, int64_t n, int64_t head, float* S, const Ahead& next) {
    prepare(begin, n, head);
    decayed_pairs_of_two(q, k_seen, d, k, n, width, decay, qk, kk);
    for (int64_t s = 0; s < n; ++s) scale_row(kk + s * kLagged, minus_beta, kk + s * kLagged, kChunk);
    decay_from_start(q, d, n, width, decay);
    decay_from_start(k_seen, d, n, width, decay);
    decay_to_end(k, d, n, width);

    Fetch fetch = rows_of(op, next);
    each_panel(S, keys, values,
               [&]<int N>(int64_t column, float* panel) { columns<N>(begin, n, head, column, panel, fetch); });
    fetch.rest();
  }

  // d, k, k_seen and q, the last two decayed by their own token, and what a token sees of itself.
  void prepare(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const F root = set(1 / std::sqrt(float(keys)));
    for (int64_t t = 0; t < n; ++t) {
      const float *g = op.g.row(begin + t) + head * keys, *from_q = op.q.row(begin + t) + at;
      const float* from_k = op.k.row(begin + t) + at;
      const int64_t row = t * width;
      F own = zero();
      auto channels = [&](int64_t i, auto... m) {
        const F decay = exp(load(g + i, m...)), key = load(from_k + i, m...), query = root * load(from_q + i, m...);
        own = fma(query, key, own);
        store(d + row + i, decay);
        store(k + row + i, key);
        store(k_seen + row + i, decay * key);
        store(q + row + i, decay * query);
      };
      int64_t i = 0;
      for (; i + kLanes <= keys; i += kLanes) channels(i);
      if (i < keys) channels(i, int(keys - i));
      qk[t * kLagged + t] = sum(own);
      beta[t] = op.beta.row(begin + t)[head], minus_beta[t] = -beta[t];
    }
  }

  // The chunk's part in the panel of S from `column` on, and those columns of y.
  template <int N>
  [[gnu::flatten]] void columns(int64_t begin, int64_t n, int64_t head, int64_t column, float* S, Fetch& fetch) {
    const float* v = op.v.row(begin) + head * values + column;
    float* y = op.y.row(begin) + head * values + column;
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {k_seen, width, 1}, S, kPanel, [&] { fetch.line(); });
      tile.subtract_from(v, op.v.row_stride, values - column);
      tile.scale_rows(beta);
      tile.solve_unit_lower({kk, 1, kLagged}, change, kPanel);
      tile.write(change, kPanel);
    });
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, width, 1}, S, kPanel);
      tile.add_lower({qk, 1, kLagged}, change, kPanel);
      tile.write(y, op.y.row_stride, values - column);
    });
    each_tile_of_panel<N>(keys, [&](auto place) {
      fetch_next_panel(S, keys, place.row);
      Tile tile(place);
      tile.read(S, kPanel);
      tile.scale_rows(decay);
      tile.add(n, {k, 1, width}, change, kPanel);
      tile.write(S, kPanel);
    });
  }

  const GatedDeltaRule& op;
  const int64_t keys, values, width;
  float *d, *q, *k_seen, *k;  // (chunk, key): decays; q and k later from the chunk's start; k later to its end
  float* decay;               // (key): of the whole chunk
  float *kk, *qk;             // (chunk, kLagged): the weight of change_s in change_t or y_t at (s, t ≥ s)
  float *beta, *minus_beta;   // (kLagged)
  float* change;              // (chunk, kPanel)
};

}  // namespace statespace::STATESPACE_ISA
