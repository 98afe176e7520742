#pragma once
// The pairs of a chunk whose decay differs by key, backwards: each token reads by rows x what earlier ones wrote by
// rows y, x_t · (D_ts ∘ y_s) with D_ts = d_{t-1} ∘ … ∘ d_{s+1}. RWKV-6 and gated linear attention read by r and write
// by k, the delta rule by key reads by r and a and writes by b, RWKV-7 writes by b and k. Tokens go by groups: what is
// written is decayed to its group's end, what reads from its group's start, and between groups a sum over pairs is a
// product with their weights that decays a whole group at a time, from the state at the chunk's start on and back from
// the gradient of that at its end. Decays ≤ 1 alone are multiplied, so that nothing overflows, and a slope is a sum
// over all that it decays, of which no part is a difference.
#include "kernels/decayed_pairs.h"
#include "kernels/token_groups.h"

namespace statespace::STATESPACE_ISA {

constexpr int kGroups = int(kChunk) / kGroup;

// Rows of a chunk (chunk, width) decayed from their group's start; and to its end, total (kGroups, width) the decay of
// each.
[[gnu::noinline]] inline void decay_from_groups(const float* x, float* out, const float* d, int64_t width) {
  for (int64_t i = 0; i < width; i += kLanes)
    for (int64_t first = i; first < i + kChunk * width; first += kGroup * width) {
      F running = set(1);
#pragma GCC unroll 4
      for (int64_t t = 0; t < kGroup; ++t) {
        const F decay = load(d + first + t * width);
        store(out + first + t * width, running * load(x + first + t * width));
        running = running * decay;
      }
    }
}
[[gnu::noinline]] inline void decay_to_groups(const float* y, float* out, const float* d, int64_t width, float* total) {
  for (int64_t i = 0; i < width; i += kLanes)
    for (int64_t g = 0; g < kGroups; ++g) {
      F running = set(1);
#pragma GCC unroll 4
      for (int64_t s = kGroup - 1; s >= 0; --s) {
        const int64_t at = (g * kGroup + s) * width + i;
        const F decay = load(d + at);
        store(out + at, running * load(y + at));
        running = running * decay;
      }
      store(total + g * width + i, running);
    }
}

// pairs (s, t) = x_t · (D_ts ∘ y_s) for s < t, kLagged a row; x_grouped and y_grouped those rows decayed as above.
[[gnu::noinline, gnu::flatten]] inline void grouped_pairs(const float* x, const float* y, const float* x_grouped,
                                                          const float* y_grouped, const float* d, const float* total,
                                                          int64_t width, float* pairs) {
  // As many sums at once as there are registers for.
  constexpr int kTokens = kLanes == 8 ? 2 : kGroup, kDots = kTokens * kGroup;
  alignas(64) float out[kDots];
  for (int g = 0; g < kGroups; ++g)
    for (int t = (g + 1) * kGroup; t < kChunk; t += kTokens) {
      F dots[kDots / kLanes][kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kDots; ++i) dots[i / kLanes][i % kLanes] = zero();
      for (int64_t i = 0; i < width; i += kLanes) {
        F between = set(1);
        for (int u = g + 1; u < t / kGroup; ++u) between = between * load(total + u * width + i);
        F xs[kTokens];
#pragma GCC unroll 4
        for (int j = 0; j < kTokens; ++j) xs[j] = load(x_grouped + (t + j) * width + i);
#pragma GCC unroll 4
        for (int s = 0; s < kGroup; ++s) {
          const F written = between * load(y_grouped + (g * kGroup + s) * width + i);
#pragma GCC unroll 4
          for (int j = 0; j < kTokens; ++j) {
            F& sum = dots[(s * kTokens + j) / kLanes][(s * kTokens + j) % kLanes];
            sum = fma(xs[j], written, sum);
          }
        }
      }
#pragma GCC unroll 16
      for (int v = 0; v < kDots / kLanes; ++v) store(out + v * kLanes, sums(dots[v]));
      for (int s = 0; s < kGroup; ++s)
        std::memcpy(pairs + (g * kGroup + s) * kLagged + t, out + s * kTokens, kTokens * sizeof(float));
    }

  constexpr int kAtOnce = kLanes == 16 ? 2 : 1, kOwn = 6, kVectors = (kAtOnce * kOwn + kLanes - 1) / kLanes;
  alignas(64) float own[kVectors * kLanes];
  for (int first = 0; first < kChunk; first += kAtOnce * kGroup) {
    F dots[kVectors][kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kVectors * kLanes; ++i) dots[i / kLanes][i % kLanes] = zero();
    for (int64_t i = 0; i < width; i += kLanes) {
#pragma GCC unroll 2
      for (int g = 0; g < kAtOnce; ++g) {
        const int64_t at = (first + g * kGroup) * width + i;
        const auto add = [&](int pair, F a, F b) {
          F& sum = dots[(g * kOwn + pair) / kLanes][(g * kOwn + pair) % kLanes];
          sum = fma(a, b, sum);
        };
        const F x1 = load(x + at + width), x2 = load(x + at + 2 * width), x3 = load(x + at + 3 * width);
        const F y0 = load(y + at), y1 = load(y + at + width), d2 = load(d + at + 2 * width);
        const F decayed = y0 * load(d + at + width);
        add(0, x1, y0), add(1, x2, decayed), add(2, x3, d2 * decayed);
        add(3, x2, y1), add(4, x3, d2 * y1), add(5, x3, load(y + at + 2 * width));
      }
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(own + v * kLanes, sums(dots[v]));
    for (int g = 0; g < kAtOnce; ++g) {
      const float* from = own + g * kOwn;
      float* to = pairs + (first + g * kGroup) * (kLagged + 1);
      for (int t = 1; t < kGroup; ++t) to[t] = from[t - 1];
      for (int t = 2; t < kGroup; ++t) to[kLagged + t] = from[t + 1];
      to[2 * kLagged + 3] = from[5];
    }
  }
}

// Rows (chunk, key) of one kind as they are and decayed as above, and their gradients: of what passes the chunk, before
// its decays, to which the pairs join. Weights (t, s), kLagged a row: what those of the pairs get, of the i-th kind
// that is written from i·kChunk on.
struct PairReads {
  const float *x, *grouped, *weights;
  float* dx;
};
struct PairWrites {
  const float *y, *grouped;
  float* dy;
};

template <int kReads, int kWrites>
struct GroupedPairs {
  int64_t width;
  const float *d, *total;  // (chunk, key); (kGroups, key)
  const float* through;    // (key): d L / d log of the whole chunk's decay
  float* slope;            // (chunk, key)
  PairReads reads[kReads];
  PairWrites writes[kWrites];

  // For a vector of keys from i on, of a whole chunk.
  [[gnu::noinline, gnu::flatten]] void add(int64_t i) const {
    F slopes[kChunk];
    F passing[kGroups];  // of what is read behind a group and written before it
    for (F& of_group : passing) of_group = zero();
    for (int g = 0; g < kGroups; ++g) read(i, g, slopes, passing);
    F kept = load(through + i);  // of what reaches the chunk's end from before the group
    for (int g = 0; g < kGroups; ++g) write(i, g, slopes, passing[g], kept);
  }

 private:
  static_assert(kGroup == 4, "pairs inside a group are written out");
  int64_t at(int64_t i, int t) const { return t * width + i; }
  F decay(int64_t i, int g) const { return load(total + g * width + i); }
  F read_at(int64_t i, int a, int t) const { return load(reads[a].grouped + at(i, t)); }
  F written_at(int64_t i, int b, int s) const { return load(writes[b].grouped + at(i, s)); }
  F weight(int a, int b, int t, int s) const { return set(reads[a].weights[t * kLagged + b * kChunk + s]); }

  // dx of a group: what its tokens read of the state at the chunk's start and of earlier ones.
  [[gnu::always_inline]] void read(int64_t i, int g, F* slopes, F* passing) const {
    const int first = g * kGroup;
    F sums[kReads][kGroup];
    each<kReads>([&](int a, int t) { sums[a][t] = load(reads[a].dx + at(i, first + t)); });
    for (int before = 0; before < g; ++before) {
      F flow = zero();
      each<kReads>([&](int a, int t) {
        sums[a][t] = sums[a][t] * decay(i, before);
        flow = fma(read_at(i, a, first + t), sums[a][t], flow);
      });
      for (int between = before + 1; between < g; ++between) flow = flow * decay(i, between);
      passing[before] = passing[before] + flow;
      each<kWrites>([&](int b, int s) {
        const F written = written_at(i, b, before * kGroup + s);
        each<kReads>(
            [&](int a, int t) { sums[a][t] = fma(weight(a, b, first + t, before * kGroup + s), written, sums[a][t]); });
      });
    }
    F later = zero();
#pragma GCC unroll 4
    for (int t = kGroup - 1; t >= 0; --t) {
      slopes[first + t] = later;
#pragma GCC unroll 2
      for (int a = 0; a < kReads; ++a) later = fma(read_at(i, a, first + t), sums[a][t], later);
    }
    const F d0 = load(d + at(i, first)), d1 = load(d + at(i, first + 1)), d2 = load(d + at(i, first + 2));
    const F from_start[kGroup] = {set(1), d0, d0 * d1, d0 * d1 * d2};
#pragma GCC unroll 2
    for (int a = 0; a < kReads; ++a) {
      F own[kGroup], far = zero();  // far: of the last token's pairs that d2 decays
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) own[t] = from_start[t] * sums[a][t];
#pragma GCC unroll 2
      for (int b = 0; b < kWrites; ++b) {
        const auto w = [&](int t, int s) { return weight(a, b, first + t, first + s); };
        const F y0 = load(writes[b].y + at(i, first)), y1 = load(writes[b].y + at(i, first + 1)), decayed = d1 * y0;
        own[1] = fma(w(1, 0), y0, own[1]);
        own[2] = fma(w(2, 1), y1, fma(w(2, 0), decayed, own[2]));
        own[3] = fma(w(3, 2), load(writes[b].y + at(i, first + 2)), own[3]);
        far = fma(w(3, 1), y1, fma(w(3, 0), decayed, far));
      }
      far = d2 * far;
      own[3] = own[3] + far;
      slopes[first + 2] = fma(load(reads[a].x + at(i, first + 3)), far, slopes[first + 2]);
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) store(reads[a].dx + at(i, first + t), own[t]);
    }
  }

  // dy and slopes of a group: what later tokens and the state at the chunk's end have of its tokens.
  [[gnu::always_inline]] void write(int64_t i, int g, F* slopes, F passing, F& kept) const {
    const int first = g * kGroup;
    F sums[kWrites][kGroup], flow = zero();
    each<kWrites>([&](int b, int s) {
      sums[b][s] = load(writes[b].dy + at(i, first + s));
      flow = fma(written_at(i, b, first + s), sums[b][s], flow);
    });
    for (int after = kGroups - 1; after > g; --after) {
      flow = flow * decay(i, after);
      each<kWrites>([&](int b, int s) { sums[b][s] = sums[b][s] * decay(i, after); });
      each<kReads>([&](int a, int t) {
        const F read = read_at(i, a, after * kGroup + t);
        each<kWrites>(
            [&](int b, int s) { sums[b][s] = fma(weight(a, b, after * kGroup + t, first + s), read, sums[b][s]); });
      });
    }
    F earlier = passing + kept;
    kept = kept + flow;
#pragma GCC unroll 4
    for (int s = 0; s < kGroup; ++s) {
      slopes[first + s] = slopes[first + s] + earlier;
#pragma GCC unroll 2
      for (int b = 0; b < kWrites; ++b) earlier = fma(written_at(i, b, first + s), sums[b][s], earlier);
    }
    const F d1 = load(d + at(i, first + 1)), d2 = load(d + at(i, first + 2)), d3 = load(d + at(i, first + 3));
    const F to_end[kGroup] = {d3 * d2 * d1, d3 * d2, d3, set(1)};
#pragma GCC unroll 2
    for (int b = 0; b < kWrites; ++b) {
      F own[kGroup], far = zero();  // far: of the first token's pairs that d1 decays
#pragma GCC unroll 4
      for (int s = 0; s < kGroup; ++s) own[s] = to_end[s] * sums[b][s];
#pragma GCC unroll 2
      for (int a = 0; a < kReads; ++a) {
        const auto w = [&](int t, int s) { return weight(a, b, first + t, first + s); };
        const F x2 = load(reads[a].x + at(i, first + 2)), x3 = load(reads[a].x + at(i, first + 3)), decayed = d2 * x3;
        own[2] = fma(w(3, 2), x3, own[2]);
        own[1] = fma(w(2, 1), x2, fma(w(3, 1), decayed, own[1]));
        own[0] = fma(w(1, 0), load(reads[a].x + at(i, first + 1)), own[0]);
        far = fma(w(2, 0), x2, fma(w(3, 0), decayed, far));
      }
      far = d1 * far;
      own[0] = own[0] + far;
      slopes[first + 1] = fma(load(writes[b].y + at(i, first)), far, slopes[first + 1]);
#pragma GCC unroll 4
      for (int s = 0; s < kGroup; ++s) store(writes[b].dy + at(i, first + s), own[s]);
    }
#pragma GCC unroll 4
    for (int t = 0; t < kGroup; ++t) store(slope + at(i, first + t), slopes[first + t]);
  }

  // fn(row of n, token of a group)
  template <int n, class Fn>
  [[gnu::always_inline]] static void each(Fn&& fn) {
#pragma GCC unroll 2
    for (int row = 0; row < n; ++row)
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) fn(row, t);
  }
};

}  // namespace statespace::STATESPACE_ISA
