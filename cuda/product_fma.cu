// A product by f32 multiply-adds: tiles of y, a square of which is one thread's.
#include "weights.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256, kSide = 16, kDepth = 16;

struct FmaArgs {
  Product p;
  Pieces tiles;
};

template <int kTile>
struct alignas(16) FmaShared {
  float x[kDepth][kTile + 4];
  float w[kDepth][kTile + 4];
};

// kCell: a thread's rows and columns, in runs of four that are 64 apart.
template <class W, int kCell>
__global__ void __launch_bounds__(kThreads, kCell == 8 ? 2 : 3) fma_tiles(FmaArgs a) {
  constexpr int kTile = kSide * kCell;
  auto& s = shared<FmaShared<kTile>>();
  const Product& p = a.p;
  const int tile = int(blockIdx.x), group = a.tiles.sequence(tile);
  const int begin = p.groups.begin(group) + (tile - a.tiles.first(group)) * kTile;
  const int rows = smaller(kTile, p.groups.end(group) - begin);
  if (rows <= 0) return;  // the whole block
  const int first = int(blockIdx.y) * kTile, columns = smaller(kTile, p.out - first);
  const int across = int(threadIdx.x) % kSide, down = int(threadIdx.x) / kSide;

  // A thread's share of the next tiles: row down + 16·i, column `across`.
  float next_x[kCell], next_w[kCell];
  auto fetch = [&](int k) {
#pragma unroll
    for (int i = 0; i < kCell; ++i) {
      const int r = down + kSide * i;
      next_x[i] = r < rows && k < p.in ? p.input(begin + r, k) : 0;
      next_w[i] =
          r < columns && k < p.in ? weight_value<W>(p, group * p.group_stride + (first + r) * p.row_stride + k) : 0;
    }
  };

  float sums[kCell][kCell] = {};
  fetch(across);
  for (int k0 = 0; k0 < p.in; k0 += kDepth) {
    barrier();
#pragma unroll
    for (int i = 0; i < kCell; ++i)
      s.x[across][down + kSide * i] = next_x[i], s.w[across][down + kSide * i] = next_w[i];
    barrier();
    fetch(k0 + kDepth + across);
#pragma unroll
    for (int k = 0; k < kDepth; ++k) {
      Floats x[kCell / 4], w[kCell / 4];
#pragma unroll
      for (int i = 0; i < kCell / 4; ++i) {
        x[i] = *reinterpret_cast<const Floats*>(&s.x[k][4 * down + 64 * i]);
        w[i] = *reinterpret_cast<const Floats*>(&s.w[k][4 * across + 64 * i]);
      }
#pragma unroll
      for (int i = 0; i < kCell; ++i)
#pragma unroll
        for (int j = 0; j < kCell; ++j) sums[i][j] += x[i / 4].v[i % 4] * w[j / 4].v[j % 4];
    }
  }
#pragma unroll
  for (int i = 0; i < kCell; ++i)
#pragma unroll
    for (int j = 0; j < kCell; ++j) {
      const int r = 4 * down + 64 * (i / 4) + i % 4, c = 4 * across + 64 * (j / 4) + j % 4;
      if (r < rows && c < columns) p.epilogue.store(begin + r, first + c, sums[i][j]);
    }
}

template <class W, int kCell>
void start(const Product& p) {
  constexpr int kTile = kSide * kCell;
  const FmaArgs args{p, {p.groups, kTile}};
  launch(fma_tiles<W, kCell>, {args.tiles.count(), ceil_div(p.out, kTile)}, kThreads, args);
}

}  // namespace

void product_fma(const Product& p) {
  with_weight(p.dtype, [&]<class W>() {
    // Large tiles read less; small ones leave no multiprocessor idle.
    if constexpr (std::is_same_v<W, float>) {
      if (ceil_div(p.rows(), 128) * ceil_div(p.out, 128) >= multiprocessors()) return start<float, 8>(p);
    }
    start<W, 4>(p);
  });
}

}  // namespace statespace::cuda
