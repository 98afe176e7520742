#pragma once
// The pairs of a chunk whose decay differs by key, backwards: each token reads by rows x what earlier ones wrote by rows
// y, x_t · (D_ts ∘ y_s) with D_ts = d_{t-1} ∘ … ∘ d_{s+1}. RWKV-6 and gated linear attention read by r and write by k,
// the delta rule by key reads by r and a and writes by b, RWKV-7 writes by b and k.
// Tokens go by groups: what is written is decayed to its group's end, what reads from its group's start, and between
// groups a sum over pairs is a product with their weights that decays a whole group at a time, from the state at the
// chunk's start on and back from the gradient of that at its end. Decays ≤ 1 alone are multiplied, so that nothing
// overflows, and a slope is a sum over all that it decays, of which no part is a difference.
#include "kernels/decayed_pairs.h"
#include "kernels/token_groups.h"

namespace statespace::STATESPACE_ISA {

template <int kReads, int kWrites>
struct GroupedPairs {
  int64_t width;
  const float* d;           // (chunk, key)
  const float* x[kReads];   // (chunk, key)
  const float* y[kWrites];  // (chunk, key)
  // (t, s), kLagged a row, those of y[b] from b·kChunk on: what the weights of x's pairs get.
  const float* weights[kReads];
  const float* through;            // (key): d L / d log of the whole chunk's decay
  float *dx[kReads], *dy[kWrites];  // (chunk, key): of what passes the chunk, before its decays; these and the pairs join
  float* slope;                    // (chunk, key)

  // For a vector of keys from i on, of a whole chunk.
  [[gnu::noinline, gnu::flatten]] void add(int64_t i) const {
    Rows rows;
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) decay(i, g, rows);
    F passing[kGroups];  // of what is read behind a group and written before it
    for (F& of_group : passing) of_group = zero();
    for (int g = 0; g < kGroups; ++g) read(i, g, rows, passing);
    F kept = load(through + i);  // of what reaches the chunk's end from before the group
    for (int g = 0; g < kGroups; ++g) write(i, g, rows, passing[g], kept);
  }

 private:
  static_assert(kGroup == 4, "pairs inside a group are written out");
  static constexpr int kGroups = int(kChunk) / kGroup;
  struct Rows {
    F x[kReads][kChunk], y[kWrites][kChunk];  // decayed from their group's start, to its end
    F from_start[kChunk], to_end[kChunk];     // by these
    F total[kGroups];                         // a group's decay
    F slope[kChunk];
  };
  int64_t at(int64_t i, int t) const { return t * width + i; }
  F weight(int a, int b, int t, int s) const { return set(weights[a][t * kLagged + b * kChunk + s]); }

  [[gnu::always_inline]] void decay(int64_t i, int g, Rows& rows) const {
    const int first = g * kGroup;
    F before = set(1), after = set(1);
#pragma GCC unroll 4
    for (int j = 0; j < kGroup; ++j) {
      const int t = first + j, s = first + kGroup - 1 - j;
      rows.from_start[t] = before, rows.to_end[s] = after;
#pragma GCC unroll 2
      for (int a = 0; a < kReads; ++a) rows.x[a][t] = before * load(x[a] + at(i, t));
#pragma GCC unroll 2
      for (int b = 0; b < kWrites; ++b) rows.y[b][s] = after * load(y[b] + at(i, s));
      before = before * load(d + at(i, t));
      if (j + 1 < kGroup) after = after * load(d + at(i, s));
    }
    rows.total[g] = before;
  }

  // dx of a group: what its tokens read of the state at the chunk's start and of earlier ones.
  [[gnu::always_inline]] void read(int64_t i, int g, Rows& rows, F* passing) const {
    const int first = g * kGroup;
    F sums[kReads][kGroup];
    each<kReads>([&](int a, int t) { sums[a][t] = load(dx[a] + at(i, first + t)); });
    for (int before = 0; before < g; ++before) {
      F flow = zero();
      each<kReads>([&](int a, int t) {
        sums[a][t] = sums[a][t] * rows.total[before];
        flow = fma(rows.x[a][first + t], sums[a][t], flow);
      });
      for (int between = before + 1; between < g; ++between) flow = flow * rows.total[between];
      passing[before] = passing[before] + flow;
      each<kWrites>([&](int b, int s) {
        const F written = rows.y[b][before * kGroup + s];
        each<kReads>([&](int a, int t) {
          sums[a][t] = fma(weight(a, b, first + t, before * kGroup + s), written, sums[a][t]);
        });
      });
    }
    F later = zero();
#pragma GCC unroll 4
    for (int t = kGroup - 1; t >= 0; --t) {
      rows.slope[first + t] = later;
#pragma GCC unroll 2
      for (int a = 0; a < kReads; ++a) later = fma(rows.x[a][first + t], sums[a][t], later);
    }
    const F d1 = load(d + at(i, first + 1)), d2 = load(d + at(i, first + 2));
#pragma GCC unroll 2
    for (int a = 0; a < kReads; ++a) {
      F own[kGroup], far = zero();  // far: of the last token's pairs that d2 decays
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) own[t] = rows.from_start[first + t] * sums[a][t];
#pragma GCC unroll 2
      for (int b = 0; b < kWrites; ++b) {
        const auto w = [&](int t, int s) { return weight(a, b, first + t, first + s); };
        const F y0 = load(y[b] + at(i, first)), y1 = load(y[b] + at(i, first + 1)), decayed = d1 * y0;
        own[1] = fma(w(1, 0), y0, own[1]);
        own[2] = fma(w(2, 1), y1, fma(w(2, 0), decayed, own[2]));
        own[3] = fma(w(3, 2), load(y[b] + at(i, first + 2)), own[3]);
        far = fma(w(3, 1), y1, fma(w(3, 0), decayed, far));
      }
      far = d2 * far;
      own[3] = own[3] + far;
      rows.slope[first + 2] = fma(load(x[a] + at(i, first + 3)), far, rows.slope[first + 2]);
#pragma GCC unroll 4
      for (int t = 0; t < kGroup; ++t) store(dx[a] + at(i, first + t), own[t]);
    }
  }

  // dy and slopes of a group: what later tokens and the state at the chunk's end have of its tokens.
  [[gnu::always_inline]] void write(int64_t i, int g, Rows& rows, F passing, F& kept) const {
    const int first = g * kGroup;
    F sums[kWrites][kGroup], flow = zero();
    each<kWrites>([&](int b, int s) {
      sums[b][s] = load(dy[b] + at(i, first + s));
      flow = fma(rows.y[b][first + s], sums[b][s], flow);
    });
    for (int after = kGroups - 1; after > g; --after) {
      flow = flow * rows.total[after];
      each<kWrites>([&](int b, int s) { sums[b][s] = sums[b][s] * rows.total[after]; });
      each<kReads>([&](int a, int t) {
        const F read = rows.x[a][after * kGroup + t];
        each<kWrites>([&](int b, int s) {
          sums[b][s] = fma(weight(a, b, after * kGroup + t, first + s), read, sums[b][s]);
        });
      });
    }
    F earlier = passing + kept;
    kept = kept + flow;
#pragma GCC unroll 4
    for (int s = 0; s < kGroup; ++s) {
      rows.slope[first + s] = rows.slope[first + s] + earlier;
#pragma GCC unroll 2
      for (int b = 0; b < kWrites; ++b) earlier = fma(rows.y[b][first + s], sums[b][s], earlier);
    }
    const F d1 = load(d + at(i, first + 1)), d2 = load(d + at(i, first + 2));
#pragma GCC unroll 2
    for (int b = 0; b < kWrites; ++b) {
      F own[kGroup], far = zero();  // far: of the first token's pairs that d1 decays
#pragma GCC unroll 4
      for (int s = 0; s < kGroup; ++s) own[s] = rows.to_end[first + s] * sums[b][s];
#pragma GCC unroll 2
      for (int a = 0; a < kReads; ++a) {
        const auto w = [&](int t, int s) { return weight(a, b, first + t, first + s); };
        const F x2 = load(x[a] + at(i, first + 2)), x3 = load(x[a] + at(i, first + 3)), decayed = d2 * x3;
        own[2] = fma(w(3, 2), x3, own[2]);
        own[1] = fma(w(2, 1), x2, fma(w(3, 1), decayed, own[1]));
        own[0] = fma(w(1, 0), load(x[a] + at(i, first + 1)), own[0]);
        far = fma(w(2, 0), x2, fma(w(3, 0), decayed, far));
      }
      far = d1 * far;
      own[0] = own[0] + far;
      rows.slope[first + 1] = fma(load(y[b] + at(i, first)), far, rows.slope[first + 1]);
#pragma GCC unroll 4
      for (int s = 0; s < kGroup; ++s) store(dy[b] + at(i, first + s), own[s]);
    }
#pragma GCC unroll 4
    for (int t = 0; t < kGroup; ++t) store(slope + at(i, first + t), rows.slope[first + t]);
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
