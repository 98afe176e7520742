#pragma once
// A chunk of the delta rule whose decay differs by key (Kimi delta attention).
#include "kernels/decayed_pairs.h"
#include "kernels/head_state.h"
#include "kernels/product.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {

// Inside a chunk, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   change_t = β_t (v_t - S_0ᵀ D_{t..} k_t - Σ_{s<t} (k_t·D_{t..s+1} k_s) change_s)
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} k_s) change_s) / sqrt(key)
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} k_s change_sᵀ
// With q_t and k_t decayed by their own token, the pairs below the diagonal have the form of wkv6's.
struct DeltaByKeyChunk {
  DeltaByKeyChunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), width(padded(keys)), stride(padded(values)), S(scratch) {
    d = S + whole_tiles(keys) * stride;
    q = d + kLagged * width, k_seen = q + kLagged * width, k = k_seen + kLagged * width;
    decay = k + kChunk * width;
    kk = decay + width + kRows, qk = kk + kChunk * kLagged;
    beta = qk + kChunk * kLagged, minus_beta = beta + kLagged;
    change = minus_beta + kLagged;
  }
  static int64_t scratch(const GatedDeltaRule& op) {
    const int64_t width = padded(op.k[2]), stride = padded(op.v[2]);
    return whole_tiles(op.k[2]) * stride + (3 * kLagged + kChunk + 1) * width + kRows + 2 * (kChunk + 1) * kLagged +
           whole_tiles(kChunk) * stride;
  }

  void step(int64_t begin, int64_t n, int64_t head) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const float* v = op.v.row(begin) + head * values;
    for (int64_t t = 0; t < n; ++t) {
      exp_row(op.g.row(begin + t) + head * keys, d + t * width, keys);
      beta[t] = op.beta.row(begin + t)[head], minus_beta[t] = -beta[t];
    }
    copy_rows(op.q, begin, n, at, keys, q, width);
    copy_rows(op.k, begin, n, at, keys, k, width);

    const float root = 1 / std::sqrt(float(keys));
    for (int64_t t = 0; t < n; ++t) {
      scale(q + t * width, root, width);
      qk[t * kLagged + t] = dot(q + t * width, k + t * width, keys);
      scale_row(q + t * width, d + t * width, q + t * width, width);
      scale_row(k + t * width, d + t * width, k_seen + t * width, width);
    }
    decayed_pairs(q, d, k, n, width, decay, qk);
    decayed_pairs(k_seen, d, k, n, width, decay, kk);
    for (int64_t s = 0; s < n; ++s) scale_row(kk + s * kLagged, minus_beta, kk + s * kLagged, kChunk);
    decay_from_start(q, d, n, width, decay);
    decay_from_start(k_seen, d, n, width, decay);
    decay_to_end(k, d, n, width);

    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {k_seen, width, 1}, S, stride);
      tile.subtract_from(v, op.v.row_stride, values);
      tile.scale_rows(beta);
      tile.solve_unit_lower({kk, 1, kLagged}, change, stride);
      tile.write(change, stride);
    });
    each_tile(n, values, [&](auto place) {
      Tile tile(place);
      tile.add(keys, {q, width, 1}, S, stride);
      tile.add_lower({qk, 1, kLagged}, change, stride);
      tile.write(op.y.row(begin) + head * values, op.y.row_stride, values);
    });
    each_tile(keys, values, [&](auto place) {
      Tile tile(place);
      tile.read(S, stride);
      tile.scale_rows(decay);
      tile.add(n, {k, 1, width}, change, stride);
      tile.write(S, stride);
    });
  }

  const GatedDeltaRule& op;
  const int64_t keys, values, width, stride;
  float* S;                   // (key, value)
  float *d, *q, *k_seen, *k;  // (chunk, key): decays; q and k later from the chunk's start; k later to its end
  float* decay;               // (key): of the whole chunk
  float *kk, *qk;             // (chunk, kLagged): the weight of change_s in change_t or y_t at (s, t ≥ s)
  float *beta, *minus_beta;   // (kLagged)
  float* change;              // (chunk, value)
};

}  // namespace statespace::STATESPACE_ISA
