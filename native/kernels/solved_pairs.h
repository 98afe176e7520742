#pragma once
// The pairs of a chunk whose decay differs by key, backwards, where rows are solved for (the delta rule by key,
// RWKV-7): each token reads by r and by a what earlier ones wrote by b, and by k where v is written as well.
#include <type_traits>

#include "kernels/decayed_pairs.h"

namespace statespace::STATESPACE_ISA {

struct SolvedPairs {
  int64_t width;
  const float *d, *r, *a, *b, *k;  // (chunk, key)
  const float* through;            // (key): d L / d log of the whole chunk's decay
  const float *of_y, *of_x;        // (t, s), kLagged a row: what the weights get of b's and, from kChunk on, of k's
  float *dr, *da, *db, *dk;  // (chunk, key): of what passes the chunk, before its decays; these and the pairs join
  float* slope;              // (chunk, key)

  // For a vector of keys from i on: the decays of what passes the chunk, and the pairs inside it.
  template <bool kWrites>
  [[gnu::noinline, gnu::flatten]] void add(int64_t n, int64_t i) const {
    F slopes[kChunk];
    F running = load(through + i);
    // What is written decays to the end: slopes of later tokens.
    F to_end = set(1);
    for (int64_t s = n - 1; s >= 0; --s) {
      const int64_t at = s * width + i;
      slopes[s] = zero();
      store(db + at, to_end * load(db + at));
      if (kWrites) store(dk + at, to_end * load(dk + at));
      to_end = to_end * load(d + at);
    }
    for (int64_t s = 0; s < n; ++s) {
      const int64_t at = s * width + i;
      slopes[s] = running;
      running = fma(load(b + at), load(db + at), running);
      if (kWrites) running = fma(load(k + at), load(dk + at), running);
    }
    // What reads decays from the start: slopes of earlier tokens.
    F from_start = set(1);
    for (int64_t t = 0; t < n; ++t) {
      const int64_t at = t * width + i;
      store(dr + at, from_start * load(dr + at));
      store(da + at, from_start * load(da + at));
      from_start = from_start * load(d + at);
    }
    running = zero();
    for (int64_t t = n - 1; t >= 0; --t) {
      const int64_t at = t * width + i;
      slopes[t] = slopes[t] + running;
      running = fma(load(r + at), load(dr + at), running);
      running = fma(load(a + at), load(da + at), running);
    }

    halves<1, kWrites>(n, i, slopes);
    halves<2, kWrites>(n, i, slopes);
    halves<4, kWrites>(n, i, slopes);
    halves<8, kWrites>(n, i, slopes);
    for (int64_t t = 0; t < n; ++t) store(slope + t * width + i, slopes[t]);
  }

  // The pairs of both halves of each block of 2·H tokens.
  template <int H, bool kWrites>
  [[gnu::always_inline]] void halves(int64_t n, int64_t i, F* slopes) const {
    static_assert(kChunk == 16, "the largest block is a chunk");
    for (int64_t first = 0; first + H < n; first += 2 * H)
      if (n - first >= 2 * H)
        pairs<H, kWrites>(first, std::integral_constant<int, H>(), i, slopes);
      else
        pairs<H, kWrites>(first, int(n - first - H), i, slopes);
  }

  // Of a pair (s, t) what is written at s decays to the middle, what t reads from there, so that sums over pairs are
  // products with their weights, and decays ≤ 1 alone are multiplied: nothing overflows, however strong they are. What
  // t reads from s is on its way at the tokens between: the slope at one behind the middle is a sum over later t, at
  // one before it over earlier s. `count` tokens are behind it.
  template <int H, bool kWrites, class Count>
  [[gnu::always_inline]] void pairs(int64_t first, Count count, int64_t i, F* slopes) const {
    const int64_t corner = (first + H) * kLagged + first;
    const auto row = [&](int t) { return (first + t) * width + i; };
    F from[H], bs[H], ks[H];  // decays to the middle, and b and k of these
    F decay = set(1);
#pragma GCC unroll 8
    for (int s = H - 1; s >= 0; --s) {
      from[s] = decay;
      bs[s] = decay * load(b + row(s));
      if (kWrites) ks[s] = decay * load(k + row(s));
      if (s > 0) decay = decay * load(d + row(s));
    }
    F rs[H] = {}, as[H] = {}, on_way[H] = {};  // r and a, decayed from the middle
    decay = set(1);
#pragma GCC unroll 8
    for (int t = 0; t < H; ++t) {
      if (t >= count) break;
      const int64_t at = row(H + t);
      const float *cy = of_y + corner + t * kLagged, *cx = of_x + corner + t * kLagged;
      F r_sum = zero(), a_sum = zero();
#pragma GCC unroll 8
      for (int s = 0; s < H; ++s) {
        r_sum = fma(set(cy[s]), bs[s], r_sum), a_sum = fma(set(cx[s]), bs[s], a_sum);
        if (kWrites) r_sum = fma(set(cy[kChunk + s]), ks[s], r_sum);
        if (kWrites) a_sum = fma(set(cx[kChunk + s]), ks[s], a_sum);
      }
      rs[t] = decay * load(r + at);
      on_way[t] = rs[t] * r_sum;
      store(dr + at, fma(decay, r_sum, load(dr + at)));
      as[t] = decay * load(a + at);
      on_way[t] = fma(as[t], a_sum, on_way[t]);
      store(da + at, fma(decay, a_sum, load(da + at)));
      if (t + 1 < H) decay = decay * load(d + at);
    }
    F running = zero();
#pragma GCC unroll 8
    for (int t = H - 1; t >= 0; --t) {
      if (t >= count) continue;
      slopes[first + H + t] = slopes[first + H + t] + running;
      running = running + on_way[t];
    }
    running = zero();
#pragma GCC unroll 8
    for (int s = 0; s < H; ++s) {
      F b_sum = zero(), k_sum = zero();
#pragma GCC unroll 8
      for (int t = 0; t < H; ++t) {
        if (t >= count) break;
        const float *cy = of_y + corner + t * kLagged + s, *cx = of_x + corner + t * kLagged + s;
        b_sum = fma(set(cx[0]), as[t], fma(set(cy[0]), rs[t], b_sum));
        if (kWrites) k_sum = fma(set(cy[kChunk]), rs[t], k_sum);
        if (kWrites) k_sum = fma(set(cx[kChunk]), as[t], k_sum);
      }
      slopes[first + s] = slopes[first + s] + running;
      running = fma(bs[s], b_sum, running);
      store(db + row(s), fma(from[s], b_sum, load(db + row(s))));
      if (kWrites) {
        running = fma(ks[s], k_sum, running);
        store(dk + row(s), fma(from[s], k_sum, load(dk + row(s))));
      }
    }
  }
};

}  // namespace statespace::STATESPACE_ISA
