#pragma once
// A chunk of the delta rule whose decay differs by key (Kimi delta attention).
#include "kernels/halved_pairs.h"
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
//   e_t = v_t - S_0ᵀ D_{t..} k_t - Σ_{s<t} (k_t·D_{t..s+1} β_s k_s) e_s
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} β_s k_s) e_s) / sqrt(key)
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} β_s k_s e_sᵀ
// With q_t and -k_t decayed by their own token, these are pairs of a chunk with β k.
struct DeltaByKeyChunk {
  using Pairs = HalvedPairs<2, 1>;
  static constexpr int64_t kSize = Pairs::kTokens;
  DeltaByKeyChunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), tokens(keys, scratch) {
    beta = scratch + Pairs::floats(keys), ones = beta + padded(kSize), innovations = ones + padded(kSize);
    std::fill_n(ones, padded(kSize), 1.0f);
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    return Pairs::floats(op.k[2]) + 2 * padded(kSize) + whole_tiles(kSize) * kPanel;
  }

  void step(int64_t begin, int64_t n, int64_t head, float* S, const Ahead& next) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const F root = set(1 / std::sqrt(float(keys)));
    const float *q = op.q.row(begin) + at, *k = op.k.row(begin) + at, *g = op.g.row(begin) + head * keys;
    const int64_t q_stride = op.q.row_stride, k_stride = op.k.row_stride, g_stride = op.g.row_stride;
    for (int64_t t = 0; t < n; ++t) beta[t] = op.beta.row(begin + t)[head];
    tokens.fill(n, [=, beta = beta](int64_t t, int64_t i, auto... lanes) {
      const F decay = exp(load(g + t * g_stride + i, lanes...)), key = load(k + t * k_stride + i, lanes...);
      const F query = root * load(q + t * q_stride + i, lanes...);
      const F written = set(beta[t]) * key;
      return Pairs::Channels{decay, {decay * query, zero() - decay * key}, {written}, {query * written}};
    });

    Fetch fetch = rows_of(op, next);
    each_panel(S, keys, values,
               [&]<int N>(int64_t column, float* panel) { columns<N>(begin, n, head, column, panel, fetch); });
    fetch.rest();
  }

  // The chunk's part in the panel of S from `column` on, and those columns of y.
  template <int N>
  [[gnu::flatten]] void columns(int64_t begin, int64_t n, int64_t head, int64_t column, float* S, Fetch& fetch) {
    const float* v = op.v.row(begin) + head * values + column;
    float* y = op.y.row(begin) + head * values + column;
    const Strided of_q{tokens.pairs[0][0], kSize, 1}, of_k{tokens.pairs[1][0], kSize, 1};
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {tokens.x[1], tokens.width, 1}, S, kPanel, [&] { fetch.line(); });
      tile.add_scaled(ones, v, op.v.row_stride, values - column);
      tile.solve_unit_lower(of_k, innovations, kPanel);
      tile.write(innovations, kPanel);
      if (op.innovations)
        tile.write(op.innovations.row(begin) + head * values + column, op.innovations.row_stride, values - column);
    });
    each_tile_of_panel<N>(n, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {tokens.x[0], tokens.width, 1}, S, kPanel);
      tile.add_lower(of_q, innovations, kPanel);
      tile.write(y, op.y.row_stride, values - column);
    });
    each_tile_of_panel<N>(keys, [&](auto place) {
      fetch_next_panel(S, keys, place.row);
      Tile tile(place);
      tile.read(S, kPanel);
      tile.scale_rows(tokens.decay());
      tile.add(n, {tokens.y[0], 1, tokens.width}, innovations, kPanel);
      tile.write(S, kPanel);
    });
  }

  const GatedDeltaRule& op;
  const int64_t keys, values;
  Pairs tokens;        // x: D q / sqrt(key) and -D k; y: β k
  float *beta, *ones;  // (chunk)
  float* innovations;  // (chunk, kPanel)
};

}  // namespace statespace::STATESPACE_ISA
