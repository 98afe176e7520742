// Attention on tensor cores (FlashAttention-2, Dao 2023): a warp holds 16 rows, their sums and their weights in
// registers; tiles of keys and values pass through shared memory, the next one's keys while this one's values are
// multiplied. Sums and softmax are f32, weights are rounded to the type of the values.
#include "attention.h"

namespace statespace::cuda {
namespace {

// kDim: headdim rounded up to a size that is compiled. A block computes kPanel columns of y, for all of which the
// scores are needed: two blocks share a head of more than 128.
template <class T, int kDim>
struct Tile {
  static constexpr int kPanel = kDim < 128 ? kDim : 128;
  static constexpr int kKeys = kDim > 128 ? 32 : 64;
  struct alignas(16) Shared {
    T k[kKeys][kDim + 8];  // 16 bytes of padding: the rows of a matrix lie in different banks
    T v[kKeys][kPanel + 8];
  };
};

// Rows of keys [first, first + kKeys) in [begin, end), columns [column, headdim) up to whole matrices; zeros elsewhere.
template <int kThreads, int kKeys, int kWidth, class T>
__device__ void load_tile(const AttentionArgs<T>& a, const AttentionPart& part, const Rows<const T>& from, int first,
                          int column, T (&to)[kKeys][kWidth]) {
  const int columns = smaller(kWidth - 8, a.headdim - column), chunks = int(ceil_div(columns, 16)) * 2;
  for (int i = int(threadIdx.x); i < kKeys * chunks; i += kThreads) {
    const int r = i / chunks, c = i % chunks * 8;
    const bool inside = first + r < part.end && c < columns;
    const int count = inside ? smaller(8, columns - c) : 0;
    const int64_t offset = inside ? part.offset(a, from, first + r) + column + c : 0;
    if (a.aligned) {
      copy_async<16>(&to[r][c], at(from.data, offset, count), count * int(sizeof(T)));
    } else {
      for (int j = 0; j < 8; ++j) to[r][c + j] = j < count ? from.data[offset + j] : from_float<T>(0);
    }
  }
}

// A pair of halves without its infinities and NaNs; `found` becomes true where there was one.
template <class T>
__device__ inline uint32_t only_finite(uint32_t pair, bool& found) {
  constexpr uint32_t kExponent = std::is_same_v<T, bf16> ? 0x7f80 : 0x7c00;
  const bool low = (pair & kExponent) == kExponent, high = (pair >> 16 & kExponent) == kExponent;
  found |= low || high;
  return pair & (low ? 0xffff0000u : ~0u) & (high ? 0x0000ffffu : ~0u);
}

template <class T, int kDim, int kWarps>
__global__ void __launch_bounds__(32 * kWarps, 8 / kWarps) attend_tiles(AttentionArgs<T> a) {
  using Sizes = Tile<T, kDim>;
  constexpr int kKeys = Sizes::kKeys, kPanel = Sizes::kPanel, kThreads = 32 * kWarps;
  constexpr bool kQueriesStay = kDim <= 128;  // in registers
  auto& s = shared<typename Sizes::Shared>();
  const AttentionPart part(a, kKeys);
  if (part.rows <= 0) return;  // the whole block
  const int column = int(blockIdx.z) * kPanel;

  // This lane's rows in fragments: `row` and 8 below.
  const int row = warp() * 16 + lane() / 4, pair = lane() % 4 * 2;
  auto queries = [&](int step, uint32_t(&out)[4]) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int r = smaller(row + i % 2 * 8, part.rows - 1), d = step * 16 + pair + i / 2 * 8;
      const int64_t t = part.token(a.group, r), first = int64_t(part.query_head(a.group, r)) * a.headdim;
      out[i] = pack2<T>(d < a.headdim ? a.q(t, first + d) : 0, d + 1 < a.headdim ? a.q(t, first + d + 1) : 0);
    }
  };
  uint32_t q[kQueriesStay ? kDim / 16 : 1][4];
  if constexpr (kQueriesStay) {
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) queries(step, q[step]);
  }
  const KeyRange seen[2] = {part.seen(a, row), part.seen(a, row + 8)};
  RowState state[2];
  float out[kPanel / 8][4] = {};

  if (part.begin < part.end) load_tile<kThreads>(a, part, a.k, part.begin, 0, s.k);
  copy_async_commit();
  for (int first = part.begin; first < part.end; first += kKeys) {
    copy_async_wait<0>();
    barrier();  // these keys are there, and the last tile's values are read
    load_tile<kThreads>(a, part, a.v, first, column, s.v);
    copy_async_commit();

    float scores[kKeys / 8][4] = {};
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
      if (step * 16 >= a.headdim) break;
      if constexpr (!kQueriesStay) queries(step, q[0]);
#pragma unroll
      for (int n = 0; n < kKeys / 16; ++n) {
        uint32_t k[4];
        load_matrices(k, &s.k[n * 16 + lane() % 8 + lane() / 16 * 8][step * 16 + lane() / 8 % 2 * 8]);
        const uint32_t left[2] = {k[0], k[1]}, right[2] = {k[2], k[3]};
        mma<T>(scores[2 * n], q[kQueriesStay ? step : 0], left);
        mma<T>(scores[2 * n + 1], q[kQueriesStay ? step : 0], right);
      }
    }
    barrier();  // the keys are read
    if (first + kKeys < part.end) load_tile<kThreads>(a, part, a.k, first + kKeys, 0, s.k);
    copy_async_commit();

    const bool whole = first >= part.common.begin && first + kKeys <= part.common.end;
    float highest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int key = first + n * 8 + pair + i % 2;
        const KeyRange& r = seen[i / 2];
        const bool visible = whole || (key >= r.begin && key < r.end && key < part.end);
        scores[n][i] = visible ? score(a, scores[n][i]) : -INFINITY;
        highest[i / 2] = fmaxf(highest[i / 2], scores[n][i]);
      }
    float shrink[2], sums[2] = {};
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      highest[i] = fmaxf(highest[i], shuffle_xor(highest[i], 1));
      highest[i] = fmaxf(highest[i], shuffle_xor(highest[i], 2));
      shrink[i] = state[i].raise(highest[i]);
    }
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[n][i] = state[i / 2].weight(scores[n][i]);
        sums[i / 2] += scores[n][i];
      }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      sums[i] += shuffle_xor(sums[i], 1);
      state[i].sum += sums[i] + shuffle_xor(sums[i], 2);
    }
#pragma unroll
    for (int n = 0; n < kPanel / 8; ++n)
#pragma unroll
      for (int i = 0; i < 4; ++i) out[n][i] *= shrink[i / 2];

    copy_async_wait<1>();
    barrier();           // the values are there
    bool found = false;  // a value that is not finite, where some row must not see it: 0 times it would be NaN
#pragma unroll
    for (int step = 0; step < kKeys / 16; ++step) {
      const uint32_t p[4] = {pack2<T>(scores[2 * step][0], scores[2 * step][1]),
                             pack2<T>(scores[2 * step][2], scores[2 * step][3]),
                             pack2<T>(scores[2 * step + 1][0], scores[2 * step + 1][1]),
                             pack2<T>(scores[2 * step + 1][2], scores[2 * step + 1][3])};
#pragma unroll
      for (int n = 0; n < kPanel / 16; ++n) {
        if (column + n * 16 >= a.headdim) break;
        uint32_t v[4];
        load_matrices_transposed(v, &s.v[step * 16 + lane() % 16][n * 16 + lane() / 16 * 8]);
        if (!whole) {
#pragma unroll
          for (uint32_t& word : v) word = only_finite<T>(word, found);
        }
        const uint32_t left[2] = {v[0], v[1]}, right[2] = {v[2], v[3]};
        mma<T>(out[2 * n], p, left);
        mma<T>(out[2 * n + 1], p, right);
      }
    }
    if (any(found)) {
      for (int key = 0; key < smaller(kKeys, part.end - first); ++key)
#pragma unroll
        for (int n = 0; n < kPanel / 8; ++n)
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            if (column + n * 8 + pair + i % 2 >= a.headdim) continue;
            const float v = to_float(s.v[key][n * 8 + pair + i % 2]);
            const bool visible = first + key >= seen[i / 2].begin && first + key < seen[i / 2].end;
            if (visible && !(fabsf(v) < INFINITY)) out[n][i] += v;
          }
    }
  }
  copy_async_wait<0>();

#pragma unroll
  for (int i = 0; i < 4; i += 2) {
    const int r = row + i / 2 * 8;
    if (r >= part.rows) continue;
    const RowState& state_of = state[i / 2];
    const float scale = a.splits > 1 ? 1 : state_of.sum == 0 ? 0 : 1 / state_of.sum;
    const global<float> to = part.result(a, r);
#pragma unroll
    for (int n = 0; n < kPanel / 8; ++n)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int d = column + n * 8 + pair + j;
        if (d < a.headdim) to[d] = out[n][i + j] * scale;
      }
    if (a.splits > 1 && column == 0 && pair == 0) to[a.headdim] = state_of.max, to[a.headdim + 1] = state_of.sum;
  }
}

template <class T, int kDim>
void start(const AttentionArgs<T>& a) {
  const Grid grid = {a.blocks.count(), int64_t(a.nheads_kv) * a.splits, ceil_div(a.headdim, Tile<T, kDim>::kPanel)};
  if (a.blocks.size == 16) return launch(attend_tiles<T, kDim, 1>, grid, 32, a);
  launch(attend_tiles<T, kDim, 4>, grid, 128, a);
}

}  // namespace

template <class T>
void attention_mma(const AttentionArgs<T>& a) {
  if constexpr (!std::is_same_v<T, float>) {
    if (a.headdim <= 32) return start<T, 32>(a);
    if (a.headdim <= 64) return start<T, 64>(a);
    if (a.headdim <= 128) return start<T, 128>(a);
    start<T, 256>(a);
  }
}

template void attention_mma(const AttentionArgs<float>&);
template void attention_mma(const AttentionArgs<f16>&);
template void attention_mma(const AttentionArgs<bf16>&);

}  // namespace statespace::cuda
