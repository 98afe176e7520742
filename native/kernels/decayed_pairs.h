#pragma once
// What the chunked forms share whose decay differs by key: rows decayed to the ends of a chunk, and its pairs of
// tokens.
#include "isa/simd.h"
#include "kernels/head_chunk.h"

namespace statespace::STATESPACE_ISA {

// Tokens of such a chunk: pairs inside a chunk cost vector operations, products between chunks cost them per state row,
// and 16 balances the two at the usual heads of 64.
constexpr int64_t kChunk = 16;

// Rows to allocate of what is read at lags: those of a chunk and a vector's lanes more, whatever these hold.
constexpr int64_t kLagged = 2 * kChunk;

// x and d (n, width): out_t = x_t ∘ d_{t-1} ∘ … ∘ d_0, which may be x, and total = d_{n-1} ∘ … ∘ d_0. Rows are whole
// vectors.
inline void decay_from_start(const float* x, float* out, const float* d, int64_t n, int64_t width, float* total) {
  for (int64_t i = 0; i < width; i += kLanes) {
    F running = set(1);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t at = t * width + i;
      const F decay = load(d + at);
      store(out + at, load(x + at) * running);
      running = running * decay;
    }
    store(total + i, running);
  }
}
inline void decay_from_start(float* x, const float* d, int64_t n, int64_t width, float* total) {
  decay_from_start(x, x, d, n, width, total);
}
// out_s = x_s ∘ d_{s+1} ∘ … ∘ d_{n-1}
inline void decay_to_end(const float* x, float* out, const float* d, int64_t n, int64_t width) {
  for (int64_t i = 0; i < width; i += kLanes) {
    F running = set(1);
    for (int64_t s = n - 1; s >= 0; --s) {
      const int64_t at = s * width + i;
      const F decay = load(d + at);
      store(out + at, load(x + at) * running);
      running = running * decay;
    }
  }
}
inline void decay_to_end(float* x, const float* d, int64_t n, int64_t width) { decay_to_end(x, x, d, n, width); }

// out_l = x_l · (y ∘ d_0 ∘ … ∘ d_{l-1}) for l < Lags, a vector of sums at once; y becomes y ∘ d_0 ∘ … ∘ d_{Lags-1} in
// `running` if there are further lags.
template <int Lags>
inline void lagged_dots(const float* x, const float* d, const float* y, int64_t width, float* running, float* out) {
  F dots[kLanes];
#pragma GCC unroll 16
  for (int l = 0; l < kLanes; ++l) dots[l] = zero();
  for (int64_t i = 0; i < width; i += kLanes) {
    F decayed = load(y + i);
#pragma GCC unroll 16
    for (int l = 0; l < Lags; ++l) {
      dots[l] = fma(load(x + l * width + i), decayed, dots[l]);
      if (l + 1 < Lags || Lags < kChunk) decayed = decayed * load(d + l * width + i);
    }
    if (kLanes < kChunk) store(running + i, decayed);
  }
  store(out, sums(dots));
}

// pairs (s, t) = x_t · (d_{t-1} ∘ … ∘ d_{s+1} ∘ y_s) for s < t < n; what it holds for t < s stays, and rows have
// kLagged columns, of which those from n on get any numbers. x and d: kLagged rows; running: a row.
inline void decayed_pairs(const float* x, const float* d, const float* y, int64_t n, int64_t width, float* running,
                          float* pairs) {
  for (int64_t s = 0; s < n; ++s)
    for (int64_t t = s + 1; t < n; t += kLanes) {
      const float *xt = x + t * width, *dt = d + t * width, *from = t == s + 1 ? y + s * width : running;
      float* out = pairs + s * kLagged + t;
      if (kLanes > kChunk / 2 && n - t <= kChunk / 2)
        lagged_dots<(kLanes < kChunk / 2 ? kLanes : kChunk / 2)>(xt, dt, from, width, running, out);
      else
        lagged_dots<kLanes>(xt, dt, from, width, running, out);
    }
}

// The same of two x for half as many lags: y is decayed once for both.
inline void lagged_dots_of_two(const float* x, const float* z, const float* d, const float* y, int64_t width,
                               float* running, float* of_x, float* of_z) {
  constexpr int kLags = kLanes / 2;
  F dots[kLanes];
#pragma GCC unroll 16
  for (int l = 0; l < kLanes; ++l) dots[l] = zero();
  for (int64_t i = 0; i < width; i += kLanes) {
    F decayed = load(y + i);
#pragma GCC unroll 8
    for (int l = 0; l < kLags; ++l) {
      dots[l] = fma(load(x + l * width + i), decayed, dots[l]);
      dots[kLags + l] = fma(load(z + l * width + i), decayed, dots[kLags + l]);
      decayed = decayed * load(d + l * width + i);
    }
    store(running + i, decayed);
  }
  alignas(64) float both[kLanes];
  store(both, sums(dots));
  std::memcpy(of_x, both, kLags * sizeof(float));
  std::memcpy(of_z, both + kLags, kLags * sizeof(float));
}

// decayed_pairs() of x and of z.
inline void decayed_pairs_of_two(const float* x, const float* z, const float* d, const float* y, int64_t n,
                                 int64_t width, float* running, float* pairs_x, float* pairs_z) {
  if constexpr (kLanes == 1) {
    decayed_pairs(x, d, y, n, width, running, pairs_x);
    decayed_pairs(z, d, y, n, width, running, pairs_z);
    return;
  }
  for (int64_t s = 0; s < n; ++s)
    for (int64_t t = s + 1; t < n; t += kLanes / 2)
      lagged_dots_of_two(x + t * width, z + t * width, d + t * width, t == s + 1 ? y + s * width : running, width,
                         running, pairs_x + s * kLagged + t, pairs_z + s * kLagged + t);
}

}  // namespace statespace::STATESPACE_ISA
