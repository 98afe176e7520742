#pragma once
// Four tokens at a time of a recurrence whose decay differs by key: each x_t decayed from the group's start, x_t ∘
// d_{t-1} ∘ … ∘ d_0, each y_s decayed to its end, d_{s+1} ∘ … ∘ d_3 ∘ y_s, and all pairs s < t inside,
//   x_t · (d_{t-1} ∘ … ∘ d_{s+1} ∘ y_s).
// Four is where operations are fewest: a pair costs as much as a key of a state's row, and larger groups have more of
// them than they save decays of the state. Products of decays ≤ 1 alone: nothing overflows, however strong the decay.
#include "isa/simd.h"
#include "kernels/head_panels.h"
#include "kernels/head_state.h"

namespace statespace::STATESPACE_ISA {

constexpr int kGroup = 4;

// X rows x of a token against its y, of up to kTokens tokens.
template <int X>
class TokenGroups {
 public:
  static constexpr int64_t kTokens = 16;

  // Channels of a token: its decay, x and y, and what they give for the token itself with x[0], to be summed.
  struct Channels {
    F d, x[X], y, own;
  };
  // Row t of a group's pairs with x[a] has them for s < t, and that of x[0] what was summed at t.
  using Pairs = float[kGroup][kGroup];

  TokenGroups(int64_t keys, float* memory)
      : keys_(keys), width(padded(keys)), d_(memory), x_(d_ + kGroups * width), y_(x_ + X * kTokens * width) {}
  static int64_t floats(int64_t keys) { return (kGroups + (X + 1) * kTokens) * padded(keys); }

  // n tokens; load(t, i, lanes…): a token's Channels from key i on, `lanes` of them where they are no vector.
  template <class Load>
  void fill(int64_t n, const Load& load) {
    for (int64_t t = 0; t < n; t += kGroup) group(t, n - t < kGroup ? int(n - t) : kGroup, load);
  }

  // += x of the group's tokens against the panel S; between() once a row of it.
  template <int N, class Between>
  [[gnu::always_inline]] void read(int64_t group, const float* S, Block<N> (&sums)[X][kGroup], Between between) const {
    // As many sums at once as there are registers for.
    constexpr int kAtOnce = kLanes == 16 || kLanes == 4 ? X : 1;
#pragma GCC unroll 2
    for (int first = 0; first < X; first += kAtOnce) {
      const float *x = x_ + (group * X + first) * kGroup * width, *row = S;
      const int64_t stride = width;
      for (int64_t i = 0; i < keys_; ++i, ++x, row += kPanel) {
        if (first == 0) between();
        const Block<N> s = load_block<N>(row);
#pragma GCC unroll 2
        for (int a = 0; a < kAtOnce; ++a)
#pragma GCC unroll 4
          for (int t = 0; t < kGroup; ++t)
            sums[first + a][t] = fma(set(x[(a * kGroup + t) * stride]), s, sums[first + a][t]);
      }
    }
  }
  // S = the group's decay of S, + y of its tokens times `values`.
  template <int N>
  [[gnu::always_inline]] void write(int64_t group, const Block<N> (&values)[kGroup], float* S) const {
    const float *y = y_ + group * kGroup * width, *d = d_ + group * width;
    const int64_t stride = width;
    for (int64_t i = 0; i < keys_; ++i, ++y, ++d, S += kPanel) {
      Block<N> s = set(*d) * load_block<N>(S);
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) s = fma(set(y[t * stride]), values[t], s);
      store_block(S, s);
    }
  }
  const Pairs& pairs(int64_t group, int a) const { return pairs_[group][a]; }

 private:
  static constexpr int64_t kGroups = kTokens / kGroup;
  static constexpr int kPairs = kGroup * (kGroup - 1) / 2;
  static constexpr int kDots = X * kPairs + kGroup, kVectors = (kDots + kLanes - 1) / kLanes;
  static constexpr int pair_at(int a, int t, int s) { return a * kPairs + t * (t - 1) / 2 + s; }
  static constexpr int own_at(int t) { return X * kPairs + t; }

  // What `load` holds is copied, as stores of vectors might change it where it lies. Behind m tokens there are zeros
  // that decay nothing.
  template <class Load>
  [[gnu::flatten]] void group(int64_t first, int m, const Load load) {
    F dots[kVectors][kLanes];
#pragma GCC unroll 64
    for (int i = 0; i < kVectors * kLanes; ++i) dots[i / kLanes][i % kLanes] = zero();
    const int64_t stride = width;
    float *to_x = x_ + first * X * stride, *to_y = y_ + first * stride, *to_d = d_ + first / kGroup * stride;
    auto channels = [&](int64_t i, auto... lanes) {
      F before = set(1);  // the product of the decays of the tokens before the one at hand
      F seen[kGroup];     // y of those, decayed to it
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) {
        Channels c{};
        if (t < m) {
          c = load(first + t, i, lanes...);
        } else {
          c.d = set(1), c.y = c.own = zero();
          for (F& v : c.x) v = zero();
        }
        F& own = dots[own_at(t) / kLanes][own_at(t) % kLanes];
        own = own + c.own;
#pragma GCC unroll 4
        for (int s = 0; s < t; ++s)
#pragma GCC unroll 2
          for (int a = 0; a < X; ++a) {
            F& sum = dots[pair_at(a, t, s) / kLanes][pair_at(a, t, s) % kLanes];
            sum = fma(c.x[a], seen[s], sum);
          }
#pragma GCC unroll 4
        for (int s = 0; s < t; ++s) seen[s] = seen[s] * c.d;
        seen[t] = c.y;
#pragma GCC unroll 2
        for (int a = 0; a < X; ++a) store(to_x + (a * kGroup + t) * stride + i, t ? c.x[a] * before : c.x[a]);
        before = t ? before * c.d : c.d;
      }
#pragma GCC unroll 4
      for (int s = 0; s < kGroup; ++s) store(to_y + s * stride + i, seen[s]);
      store(to_d + i, before);
    };
    int64_t i = 0;
    for (; i + kLanes <= keys_; i += kLanes) channels(i);
    if (i < keys_) channels(i, int(keys_ - i));
    alignas(64) float out[kVectors * kLanes];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(out + v * kLanes, sums(dots[v]));
    for (int a = 0; a < X; ++a)
      for (int t = 0; t < kGroup; ++t) {
        float* to = pairs_[first / kGroup][a][t];
        for (int s = 0; s < t; ++s) to[s] = out[pair_at(a, t, s)];
        if (a == 0) to[t] = out[own_at(t)];
      }
  }

  const int64_t keys_, width;
  float *d_, *x_, *y_;  // (group, width), (group, X, kGroup, width), (group, kGroup, width)
  Pairs pairs_[kGroups][X];
};

// Of n tokens from `begin` on, whose groups are filled: the part in a panel of S of what writes v (gated linear
// attention, RWKV-6), and their y: columns of v from `from` on, of y from `to` on, `width` of them. between() once a
// row of S.
template <int N, class Between>
[[gnu::flatten]] inline void write_columns(const TokenGroups<1>& tokens, const Tensor& values, const Tensor& out,
                                           int64_t begin, int64_t n, int64_t from, int64_t to, int64_t width, float* S,
                                           Between between) {
  for (int64_t first = 0; first < n; first += kGroup) {
    const int64_t group = first / kGroup;
    Block<N> y[1][kGroup], v[kGroup];
#pragma GCC unroll 4
    for (int t = 0; t < kGroup; ++t) y[0][t] = v[t] = zero_block<N>();
    tokens.template read<N>(group, S, y, between);
    const auto& pairs = tokens.pairs(group, 0);
    auto finish = [&](int m, auto... count) {
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) {
        if (t >= m) break;
        v[t] = load_block<N>(values.row(begin + first + t) + from, count...);
#pragma GCC unroll 4
        for (int s = 0; s <= t; ++s) y[0][t] = fma(set(pairs[t][s]), v[s], y[0][t]);
        store_block(out.row(begin + first + t) + to, y[0][t], count...);
      }
    };
    const int m = n - first < kGroup ? int(n - first) : kGroup;
    if (m == kGroup && width >= N * kLanes)
      finish(kGroup);
    else
      finish(m, width);
    tokens.template write<N>(group, v, S);
  }
}

}  // namespace statespace::STATESPACE_ISA
