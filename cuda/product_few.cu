// A product of few rows, as when decoding: bound by the weight's bytes, each of which is read once. x lies in shared
// memory in pieces of its columns; a warp takes some outputs, and its lanes the columns.
#include "weights.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

struct FewArgs {
  Product p;
  Pieces tiles;  // rows of one group
};

// Columns of x in shared memory at a time; a lane has eight in a row.
template <int kRows>
constexpr int kDepth = kRows > 4 ? 512 : 1024;

// The fours of a lane's eight lie apart, so that vector loads of neighbours are neighbours.
template <int kRows>
struct alignas(16) FewShared {
  float x[kRows][2][kDepth<kRows> / 8][4];
};

template <class W, int kRows, int kColumns>
__global__ void __launch_bounds__(kThreads, kRows == 1 ? 4 : 2) few_rows(FewArgs a) {
  auto& s = shared<FewShared<kRows>>();
  constexpr int kStep = kDepth<kRows>;
  const Product& p = a.p;
  const int tile = int(blockIdx.y), group = a.tiles.sequence(tile);
  const int begin = p.groups.begin(group) + (tile - a.tiles.first(group)) * kRows;
  const int rows = smaller(kRows, p.groups.end(group) - begin);
  if (rows <= 0) return;  // the whole block

  const int first = (int(blockIdx.x) * kWarps + warp()) * kColumns;
  float sums[kRows][kColumns] = {};
  for (int k0 = 0; k0 < p.in; k0 += kStep) {
    barrier();
    for (int i = int(threadIdx.x); i < kRows * kStep; i += kThreads) {
      const int r = i / kStep, k = i % kStep;
      s.x[r][k / 4 % 2][k / 8][k % 4] = r < rows && k0 + k < p.in ? p.input(begin + r, k0 + k) : 0;
    }
    barrier();
    for (int k = lane(); 8 * k < smaller(kStep, p.in - k0); k += 32) {
      float w[kColumns][8];
#pragma unroll
      for (int c = 0; c < kColumns; ++c) {
        const int column = smaller(first + c, p.out - 1);
        weight_values<W>(p, group * p.group_stride + column * p.row_stride, k0 + 8 * k, w[c]);
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const Floats low = *reinterpret_cast<const Floats*>(s.x[r][0][k]);
        const Floats high = *reinterpret_cast<const Floats*>(s.x[r][1][k]);
#pragma unroll
        for (int c = 0; c < kColumns; ++c)
#pragma unroll
          for (int i = 0; i < 4; ++i) sums[r][c] += low.v[i] * w[c][i] + high.v[i] * w[c][4 + i];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      for (int mask = 16; mask > 0; mask /= 2) sums[r][c] += shuffle_xor(sums[r][c], mask);
      if (lane() == 0 && r < rows && first + c < p.out) p.epilogue.store(begin + r, first + c, sums[r][c]);
    }
}

}  // namespace

void product_few(const Product& p) {
  auto start = [&]<class W, int kRows, int kColumns>() {
    const FewArgs args{p, {p.groups, kRows}};
    launch(few_rows<W, kRows, kColumns>, {ceil_div(p.out, kWarps * kColumns), args.tiles.count()}, kThreads, args);
  };
  with_weight(p.dtype, [&]<class W>() {
    const int64_t rows = ceil_div(p.rows(), p.groups.count);
    if (rows <= 1)
      start.template operator()<W, 1, 2>();
    else if (rows <= 4)
      start.template operator()<W, 4, 4>();
    else
      start.template operator()<W, 16, 2>();
  });
}

}  // namespace statespace::cuda
