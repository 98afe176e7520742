#pragma once
// The delta rule by chunks of tokens.
#include "kernels/head_panels.h"
#include "kernels/head_state.h"
#include "kernels/step_decay.h"
#include "kernels/token_groups.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {

// Inside a group, with S_0 at its start and D_{t..s} the product of the decays of tokens s … t:
//   e_t = v_t - S_0ᵀ D_{t..} k_t - Σ_{s<t} (k_t·D_{t..s+1} β_s k_s) e_s
//   y_t = (S_0ᵀ D_{t..} q_t + Σ_{s≤t} (q_t·D_{t..s+1} β_s k_s) e_s) / sqrt(key)
//   S_n = D_{n..} S_0 + Σ_s D_{n..s+1} β_s k_s e_sᵀ
// With q_t and -k_t decayed by their own token, these are pairs of a group with β k.
template <bool kByKey>
struct DeltaChunk {
  using Tokens = TokenGroups<2>;
  static constexpr int64_t kSize = Tokens::kTokens;
  DeltaChunk(const GatedDeltaRule& op, float* scratch)
      : op(op), keys(op.k[2]), values(op.v[2]), tokens(keys, scratch) {}
  static int64_t scratch(const GatedDeltaRule& op) { return Tokens::floats(op.k[2]); }

  void step(int64_t begin, int64_t n, int64_t head, Columns part, float* S, const Ahead& next) {
    const int64_t at = head / (op.v[1] / op.k[1]) * keys;
    const F root = set(1 / std::sqrt(float(keys)));
    const float *q = op.q.row(begin) + at, *k = op.k.row(begin) + at;
    const int64_t q_stride = op.q.row_stride, k_stride = op.k.row_stride;
    for (int64_t t = 0; t < n; ++t) beta[t] = op.beta.row(begin + t)[head];
    auto channels = [=, beta = &beta[0]](F decay, int64_t t, int64_t i, auto... lanes) {
      const F key = load(k + t * k_stride + i, lanes...), query = root * load(q + t * q_stride + i, lanes...);
      const F written = set(beta[t]) * key;
      return Tokens::Channels{decay, {decay * query, zero() - decay * key}, written, query * written};
    };
    if constexpr (kByKey) {
      const float* g = op.g.row(begin) + head * keys;
      tokens.fill(n, [=, g_stride = op.g.row_stride](int64_t t, int64_t i, auto... lanes) {
        return channels(natural_step_decay(load(g + t * g_stride + i, lanes...)), t, i, lanes...);
      });
    } else {
      for (int64_t t = 0; t < n; ++t) decays[t] = op.g ? op.g.row(begin + t)[head] : 0;
      decay_row(decays, decays, n);
      tokens.fill(n, [=, decays = &decays[0]](int64_t t, int64_t i, auto... lanes) {
        return channels(set(decays[t]), t, i, lanes...);
      });
    }

    Fetch fetch = rows_of(next, part);
    each_panel(S, keys, part,
               [&]<int N>(int64_t column, float* panel) { columns<N>(begin, n, head, column, panel, fetch); });
    fetch.rest();
  }

  // The rows of the next step.
  Fetch rows_of(const Ahead& next, Columns part) const {
    const int64_t at = next.head / (op.v[1] / op.k[1]) * keys;
    Fetch fetch(next);
    fetch.add(op.q, at, keys);
    fetch.add(op.k, at, keys);
    if (kByKey) fetch.add(op.g, next.head * keys, keys);
    fetch.add(op.v, next.head * values + part.begin, part.end - part.begin);
    fetch.add(op.y, next.head * values + part.begin, part.end - part.begin);
    return fetch;
  }

  // The chunk's part in the panel of S from `column` on, and those columns of y.
  template <int N>
  [[gnu::flatten]] void columns(int64_t begin, int64_t n, int64_t head, int64_t column, float* S, Fetch& fetch) {
    const int64_t at = head * values + column, width = values - column;
    for (int64_t first = 0; first < n; first += kGroup) {
      const int64_t group = first / kGroup;
      Block<N> sums[2][kGroup];
#pragma GCC unroll 8
      for (int i = 0; i < 2 * kGroup; ++i) sums[i / kGroup][i % kGroup] = zero_block<N>();
      tokens.template read<N>(group, S, sums, [&] { fetch.line(); });
      auto &y = sums[0], &innovation = sums[1];
      const auto &of_q = tokens.pairs(group, 0), &of_k = tokens.pairs(group, 1);
      auto solve = [&](int m, auto... count) {
#pragma GCC unroll 4
        for (int t = 0; t < kGroup; ++t) {
          if (t >= m) break;
          innovation[t] = fma(set(1), load_block<N>(op.v.row(begin + first + t) + at, count...), innovation[t]);
#pragma GCC unroll 4
          for (int s = 0; s < t; ++s) innovation[t] = fma(set(of_k[t][s]), innovation[s], innovation[t]);
#pragma GCC unroll 4
          for (int s = 0; s <= t; ++s) y[t] = fma(set(of_q[t][s]), innovation[s], y[t]);
          store_block(op.y.row(begin + first + t) + at, y[t], count...);
          if (op.innovations) store_block(op.innovations.row(begin + first + t) + at, innovation[t], count...);
        }
      };
      const int m = n - first < kGroup ? int(n - first) : kGroup;
      if (m == kGroup && width >= N * kLanes)
        solve(kGroup);
      else
        solve(m, width);
      tokens.template write<N>(group, innovation, S);
    }
  }

  const GatedDeltaRule& op;
  const int64_t keys, values;
  Tokens tokens;  // x: D q / sqrt(key) and -D k; y: β k
  float beta[kSize], decays[kSize + kLanes];
};

}  // namespace statespace::STATESPACE_ISA
