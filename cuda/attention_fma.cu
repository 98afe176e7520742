// Attention by f32 multiply-adds: for f32 keys, and for heads of any size. A block's threads lie 16 down and 8 across:
// a thread has some rows of the tile, four keys of the scores and every eighth four of the columns of y.
#include "attention.h"
#include "weights.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 128, kAcross = 8, kKeys = 32, kDepth = 32;

template <int kRows, int kPanel>
struct alignas(16) FmaShared {
  float q[kDepth][kRows + 4];
  float k[kDepth][kKeys + 4];
  float p[kKeys][kRows + 4];
  float v[kKeys][kPanel + 4];
};

// kCell rows a thread; kPanel columns of y a block.
template <class T, int kCell, int kPanel>
__global__ void __launch_bounds__(kThreads, 3) attend_rows(AttentionArgs<T> a) {
  constexpr int kRows = 16 * kCell;
  auto& s = shared<FmaShared<kRows, kPanel>>();
  const AttentionPart part(a, kKeys);
  if (part.rows <= 0) return;  // the whole block
  const int column = int(blockIdx.z) * kPanel, columns = smaller(kPanel, a.headdim - column);
  const int across = int(threadIdx.x) % kAcross, top = int(threadIdx.x) / kAcross * kCell;

  KeyRange seen[kCell];
  RowState state[kCell];
#pragma unroll
  for (int r = 0; r < kCell; ++r) seen[r] = part.seen(a, top + r);
  float out[kCell][kPanel / kAcross] = {};

  for (int first = part.begin; first < part.end; first += kKeys) {
    float scores[kCell][4] = {};
    for (int d0 = 0; d0 < a.headdim; d0 += kDepth) {
      barrier();  // what is overwritten has been read
      for (int i = int(threadIdx.x); i < kRows * kDepth; i += kThreads) {
        const int r = i / kDepth, d = i % kDepth;
        const bool inside = r < part.rows && d0 + d < a.headdim;
        s.q[d][r] = inside ? a.q(part.token(a.group, r), int64_t(part.query_head(a.group, r)) * a.headdim + d0 + d) : 0;
      }
      for (int i = int(threadIdx.x); i < kKeys * kDepth; i += kThreads) {
        const int r = i / kDepth, d = i % kDepth;
        const bool inside = first + r < part.end && d0 + d < a.headdim;
        s.k[d][r] = inside ? to_float(a.k.data[part.offset(a, a.k, first + r) + d0 + d]) : 0;
      }
      barrier();
#pragma unroll 8
      for (int d = 0; d < kDepth; ++d) {
        const Floats k = *reinterpret_cast<const Floats*>(&s.k[d][4 * across]);
#pragma unroll
        for (int r = 0; r < kCell; ++r)
#pragma unroll
          for (int j = 0; j < 4; ++j) scores[r][j] += s.q[d][top + r] * k.v[j];
      }
    }
    for (int i = int(threadIdx.x); i < kKeys * kPanel; i += kThreads) {
      const int r = i / kPanel, d = i % kPanel;
      const bool inside = first + r < part.end && d < columns;
      s.v[r][d] = inside ? to_float(a.v.data[part.offset(a, a.v, first + r) + column + d]) : 0;
    }

    const bool whole = first >= part.common.begin && first + kKeys <= part.common.end;
#pragma unroll
    for (int r = 0; r < kCell; ++r) {
      float highest = -INFINITY, sum = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = first + 4 * across + j;
        const bool visible = key >= seen[r].begin && key < seen[r].end && key < part.end;
        scores[r][j] = visible ? score(a, scores[r][j]) : -INFINITY;
        highest = fmaxf(highest, scores[r][j]);
      }
#pragma unroll
      for (int mask = 1; mask < kAcross; mask *= 2) highest = fmaxf(highest, shuffle_xor(highest, mask));
      const float shrink = state[r].raise(highest);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float p = state[r].weight(scores[r][j]);
        s.p[4 * across + j][top + r] = p, sum += p;
      }
#pragma unroll
      for (int mask = 1; mask < kAcross; mask *= 2) sum += shuffle_xor(sum, mask);
      state[r].sum += sum;
#pragma unroll
      for (int j = 0; j < kPanel / kAcross; ++j) out[r][j] *= shrink;
    }
    barrier();
    for (int key = 0; key < kKeys; ++key) {
      float p[kCell];
#pragma unroll
      for (int r = 0; r < kCell; ++r) p[r] = s.p[key][top + r];
#pragma unroll
      for (int j = 0; j < kPanel / kAcross; j += 4) {
        const Floats v = *reinterpret_cast<const Floats*>(&s.v[key][4 * across + j * kAcross]);
#pragma unroll
        for (int r = 0; r < kCell; ++r)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            if (whole || p[r] != 0) out[r][j + i] += p[r] * v.v[i];  // 0 times a hidden NaN would be NaN
      }
    }
  }

#pragma unroll
  for (int r = 0; r < kCell; ++r) {
    if (top + r >= part.rows) continue;
    const float scale = a.splits > 1 ? 1 : state[r].sum == 0 ? 0 : 1 / state[r].sum;
    const global<float> to = part.result(a, top + r);
#pragma unroll
    for (int j = 0; j < kPanel / kAcross; ++j) {
      const int d = 4 * across + j / 4 * 4 * kAcross + j % 4;
      if (d < columns) to[column + d] = out[r][j] * scale;
    }
    if (a.splits > 1 && column == 0 && across == 0) to[a.headdim] = state[r].max, to[a.headdim + 1] = state[r].sum;
  }
}

template <class T, int kPanel>
void start(const AttentionArgs<T>& a) {
  const Grid grid = {a.blocks.count(), int64_t(a.nheads_kv) * a.splits, ceil_div(a.headdim, kPanel)};
  if (a.blocks.size == 16) return launch(attend_rows<T, 1, kPanel>, grid, kThreads, a);
  launch(attend_rows<T, 4, kPanel>, grid, kThreads, a);
}

}  // namespace

template <class T>
void attention_fma(const AttentionArgs<T>& a) {
  if constexpr (std::is_same_v<T, float>) {
    if (a.headdim <= 32) return start<T, 32>(a);
  }
  start<T, 128>(a);
}

template void attention_fma(const AttentionArgs<float>&);
template void attention_fma(const AttentionArgs<f16>&);
template void attention_fma(const AttentionArgs<bf16>&);

}  // namespace statespace::cuda
