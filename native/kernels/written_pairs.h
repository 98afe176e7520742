#pragma once
// The pairs of a chunk whose decay differs by key, backwards, where k vᵀ is written and nothing is solved (RWKV-6,
// gated linear attention): y_t = Σ_{s<t} (r_t · D_ts ∘ k_s) v_s, D_ts = d_{t-1} ∘ … ∘ d_{s+1}, and what passes the
// chunk.
#include "kernels/decayed_pairs.h"

namespace statespace::STATESPACE_ISA {

struct WrittenPairs {
  int64_t width;
  const float *d, *r, *k;  // (chunk, key)
  const float* through;    // (key): d L / d log of the whole chunk's decay
  const float* weights;    // (t, s) in rows of kLagged: dy_t · v_s
  float *dr, *dk;  // (chunk, key): of what passes the chunk, before its decays; these are added here, and the pairs
  float* slope;    // (chunk, key)
};

// For V vectors of keys from i on, whose chains of products hide each other's latency. Of a pair (s, t) what is written
// at s is decayed on the way up to t and what t's gradient is on the way down to s: their product at a token between is
// its slope.
template <int V>
[[gnu::noinline]] void add_written_pairs(const WrittenPairs& p, int64_t n, int64_t i) {
  F slopes[kChunk][V], running[V], decay[V];
  const auto each = [](auto&& fn) {
#pragma GCC unroll 2
    for (int j = 0; j < V; ++j) fn(j);
  };
  const auto at = [&](int64_t t, int j) { return t * p.width + i + j * kLanes; };
  // What is written decays to the end: slopes of later tokens.
  each([&](int j) { decay[j] = set(1); });
  for (int64_t s = n - 1; s >= 0; --s)
    each([&](int j) {
      store(p.dk + at(s, j), decay[j] * load(p.dk + at(s, j)));
      decay[j] = decay[j] * load(p.d + at(s, j));
    });
  each([&](int j) { running[j] = load(p.through + i + j * kLanes); });
  for (int64_t s = 0; s < n; ++s)
    each([&](int j) {
      slopes[s][j] = running[j];
      running[j] = fma(load(p.k + at(s, j)), load(p.dk + at(s, j)), running[j]);
    });
  // What reads decays from the start: slopes of earlier tokens.
  each([&](int j) { decay[j] = set(1), running[j] = zero(); });
  for (int64_t t = 0; t < n; ++t)
    each([&](int j) {
      store(p.dr + at(t, j), decay[j] * load(p.dr + at(t, j)));
      decay[j] = decay[j] * load(p.d + at(t, j));
    });
  for (int64_t t = n - 1; t >= 0; --t)
    each([&](int j) {
      slopes[t][j] = slopes[t][j] + running[j];
      running[j] = fma(load(p.r + at(t, j)), load(p.dr + at(t, j)), running[j]);
    });
  for (int64_t s = 0; s + 1 < n; ++s) {
    F up[kChunk][V], down[V];
    each([&](int j) { running[j] = load(p.k + at(s, j)), down[j] = zero(); });
    for (int64_t t = s + 1; t < n; ++t) {
      const F weight = set(p.weights[t * kLagged + s]);
      each([&](int j) {
        store(p.dr + at(t, j), fma(weight, running[j], load(p.dr + at(t, j))));
        up[t][j] = running[j], running[j] = running[j] * load(p.d + at(t, j));
      });
    }
    for (int64_t t = n - 1; t > s; --t) {
      const F weight = set(p.weights[t * kLagged + s]);
      each([&](int j) {
        down[j] = down[j] * load(p.d + at(t, j));
        slopes[t][j] = fma(down[j], up[t][j], slopes[t][j]);
        down[j] = fma(weight, load(p.r + at(t, j)), down[j]);
      });
    }
    each([&](int j) { store(p.dk + at(s, j), load(p.dk + at(s, j)) + down[j]); });
  }
  for (int64_t t = 0; t < n; ++t) each([&](int j) { store(p.slope + at(t, j), slopes[t][j]); });
}

}  // namespace statespace::STATESPACE_ISA
