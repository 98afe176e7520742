#pragma once
// The tokens of a chunk whose decay differs by key, and all their pairs s < t,
//   x_t · (d_{t-1} ∘ … ∘ d_{s+1} ∘ y_s),
// by halves of halves: of a block with its middle at m, a pair of both halves is the product of x_t decayed from the
// middle, x_t ∘ d_m ∘ … ∘ d_{t-1}, and y_s decayed to it, d_{s+1} ∘ … ∘ d_{m-1} ∘ y_s. Blocks double until one is the
// chunk, so that at the end x is decayed from the chunk's start and y to its end. Products of decays ≤ 1 alone: nothing
// overflows, however strong the decay.
#include <cstring>

#include "isa/simd.h"
#include "kernels/decayed_pairs.h"
#include "kernels/head_state.h"

namespace statespace::STATESPACE_ISA {

// X rows x of a token against Y rows y.
template <int X, int Y>
class HalvedPairs {
 public:
  static constexpr int64_t kTokens = kChunk;

  // Channels of a token: its decay, x and y, and what x[0] and each y give for the token itself, to be summed.
  struct Channels {
    F d, x[X], y[Y], own[Y];
  };

  HalvedPairs(int64_t keys, float* memory) : keys_(keys), width(padded(keys)), d_(memory) {
    float* next = d_ + kGroups * width + kLanes;
    for (auto& rows : x) rows = next, next += kTokens * width;
    for (auto& rows : y) rows = next, next += kTokens * width;
    for (auto& of_x : pairs)
      for (auto& square : of_x) square = next, next += kTokens * kTokens;
  }
  static int64_t floats(int64_t keys) {
    return (kGroups + (X + Y) * kTokens) * padded(keys) + kLanes + X * Y * kTokens * kTokens;
  }

  // All of n tokens; load(t, i, lanes…): a token's Channels from key i on, `lanes` of them where they are no vector.
  template <class Load>
  void fill(int64_t n, const Load& load) {
    for (int64_t first = 0; first < n; first += kGroup)
      group(first, n - first < kGroup ? int(n - first) : kGroup, load);
    for (int64_t half = kGroup; half < n; half *= 2)
      for (int64_t first = 0; first + half < n; first += 2 * half) join(first, half, n);
  }
  // (key): the product of all decays.
  const float* decay() const { return d_; }

 private:
  static constexpr int kGroup = 4;
  static constexpr int64_t kGroups = kTokens / kGroup;
  // The pairs of a group of tokens, and each with itself.
  static constexpr int kPairs = kGroup * (kGroup - 1) / 2;
  static constexpr int kDots = (X * kPairs + kGroup) * Y, kVectors = (kDots + kLanes - 1) / kLanes;
  // y of a square of products: as many sums as there are registers for.
  static constexpr int kColumns = kLanes == 16 || kLanes == 4 ? 4 : 2;

  // Sums of vectors, a vector of them at once.
  template <int N>
  struct Sums {
    F v[N][kLanes];
    Sums() {
#pragma GCC unroll 64
      for (int i = 0; i < N * kLanes; ++i) v[i / kLanes][i % kLanes] = zero();
    }
    [[gnu::always_inline]] void add(int i, F a, F b) {
      F& sum = v[i / kLanes][i % kLanes];
      sum = fma(a, b, sum);
    }
    [[gnu::always_inline]] void write(float* to) const {
#pragma GCC unroll 64
      for (int i = 0; i < N; ++i) store(to + i * kLanes, sums(v[i]));
    }
  };

  // m neighbouring tokens: read, multiplied with each other, and written as a block. What `load` holds is copied, as
  // stores of vectors might change it where it lies.
  template <class Load>
  [[gnu::flatten]] void group(int64_t first, int m, const Load load) {
    Sums<kVectors> dots;
    const int64_t stride = width;
    float *to_x[X], *to_y[Y], *to_d = d_ + first / kGroup * stride;
    for (int a = 0; a < X; ++a) to_x[a] = x[a] + first * stride;
    for (int b = 0; b < Y; ++b) to_y[b] = y[b] + first * stride;
    auto channels = [&](int64_t i, auto... lanes) {
      F before = set(1);  // the product of the decays of the tokens before the one at hand
      F seen[Y][kGroup];  // y of those, decayed to it
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) {
        Channels c{};
        if (t < m) {
          c = load(first + t, i, lanes...);
        } else {
          c.d = set(1);
          for (F& v : c.x) v = zero();
          for (F& v : c.y) v = zero();
          for (F& v : c.own) v = zero();
        }
#pragma GCC unroll 2
        for (int b = 0; b < Y; ++b) {
          F& own = dots.v[own_at(b, t) / kLanes][own_at(b, t) % kLanes];
          own = own + c.own[b];
#pragma GCC unroll 4
          for (int s = 0; s < t; ++s)
#pragma GCC unroll 2
            for (int a = 0; a < X; ++a) dots.add(pair_at(a, b, t, s), c.x[a], seen[b][s]);
#pragma GCC unroll 4
          for (int s = 0; s < t; ++s) seen[b][s] = seen[b][s] * c.d;
          seen[b][t] = c.y[b];
        }
#pragma GCC unroll 2
        for (int a = 0; a < X; ++a) store(to_x[a] + t * stride + i, t ? c.x[a] * before : c.x[a]);
        before = t ? before * c.d : c.d;
      }
#pragma GCC unroll 2
      for (int b = 0; b < Y; ++b)
#pragma GCC unroll 4
        for (int s = 0; s < kGroup; ++s) store(to_y[b] + s * stride + i, seen[b][s]);
      store(to_d + i, before);
    };
    int64_t i = 0;
    for (; i + kLanes <= keys_; i += kLanes) channels(i);
    if (i < keys_) channels(i, int(keys_ - i));
    alignas(64) float out[kVectors * kLanes];
    dots.write(out);
    for (int a = 0; a < X; ++a)
      for (int b = 0; b < Y; ++b) {
        float* to = pairs[a][b] + first * (kTokens + 1);
        for (int t = 0; t < kGroup; ++t, to += kTokens) {
          for (int s = 0; s < t; ++s) to[s] = out[pair_at(a, b, t, s)];
          if (a == 0) to[t] = out[own_at(b, t)];
        }
      }
  }
  static constexpr int pair_at(int a, int b, int t, int s) { return (a * Y + b) * kPairs + t * (t - 1) / 2 + s; }
  static constexpr int own_at(int b, int t) { return X * Y * kPairs + b * kGroup + t; }

  // Two neighbouring blocks become one.
  [[gnu::flatten]] void join(int64_t first, int64_t half, int64_t n) {
    const int64_t middle = first + half, end = middle + half < n ? middle + half : n;
    for (int a = 0; a < X; ++a)
      for (int b = 0; b < Y; ++b)
        for (int64_t t = middle; t < end; t += kGroup)
          for (int64_t s = first; s < middle; s += kColumns)
            square(x[a] + t * width, y[b] + s * width, pairs[a][b] + t * kTokens + s);
    float *d = d_ + first / kGroup * width, *d_behind = d_ + middle / kGroup * width;
    const int64_t stride = width;
    for (int64_t i = 0; i < stride; i += kLanes) {
      const F before = load(d + i), behind = load(d_behind + i);
      for (float* rows : x)
        for (float *at = rows + middle * stride + i, *stop = rows + end * stride; at < stop; at += stride)
          store(at, load(at) * before);
      for (float* rows : y)
        for (float *at = rows + first * stride + i, *stop = rows + middle * stride; at < stop; at += stride)
          store(at, load(at) * behind);
      store(d + i, before * behind);
    }
  }
  // to (t, s) = x_t · y_s for rows of both.
  void square(const float* x, const float* y, float* to) const {
    Sums<kGroup * kColumns / kLanes> dots;
    const int64_t width = this->width;
    for (int64_t i = 0; i < width; i += kLanes) {
      F b[kColumns];
#pragma GCC unroll 4
      for (int s = 0; s < kColumns; ++s) b[s] = load(y + s * width + i);
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) {
        const F a = load(x + t * width + i);
#pragma GCC unroll 4
        for (int s = 0; s < kColumns; ++s) dots.add(t * kColumns + s, a, b[s]);
      }
    }
    alignas(64) float out[kGroup * kColumns];
    dots.write(out);
    for (int t = 0; t < kGroup; ++t) std::memcpy(to + t * kTokens, out + t * kColumns, kColumns * sizeof(float));
  }

  const int64_t keys_;

 public:
  const int64_t width;
  float *x[X], *y[Y];  // (kTokens, width): from the chunk's start; to its end
  float* pairs[X][Y];  // (kTokens, kTokens): of x and y at (t, s), on their diagonals for x[0] what was summed

 private:
  float* d_;  // (kGroups, width): products of decays, of a block in the row of its first group
};

}  // namespace statespace::STATESPACE_ISA
