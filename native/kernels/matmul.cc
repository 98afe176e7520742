#include "kernels/matmul.h"

#include "isa/math.h"
#include "kernels/matmul_tile.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Rows of x in tiles of nearly equal height, so that no tile is a thin remainder.
struct Tiles {
  explicit Tiles(int64_t rows) : rows(rows), count(ceil_div(rows, kTileRows)) {}
  int64_t begin(int64_t i) const { return i * rows / count; }
  int height(int64_t i) const { return int(begin(i + 1) - begin(i)); }
  const int64_t rows, count;
};

// out (in, m) = rows [first, first + m) of x
template <class T>
void interleave(const Rows& x, int64_t first, int m, int64_t in, float* out) {
  for (int i = 0; i < m; ++i) {
    const T* row = x.row<T>(first + i);
    for (int64_t k = 0; k < in; ++k) out[k * m + i] = to_float(row[k]);
  }
}

void interleave(const Rows& x, int64_t first, int m, int64_t in, float* out) {
  if (x.dtype == DType::bf16) return interleave<bf16_t>(x, first, m, in, out);
  if (x.dtype == DType::f16) return interleave<f16_t>(x, first, m, in, out);
  interleave<float>(x, first, m, in, out);
}

// Outputs [o, o + n) of rows [first, first + m), from a tile's sums (m, kPanel).
template <class Act>
void finish(const Epilogue& e, const Rows& y, int64_t first, int m, int64_t o, int n, const float* sums, Act act) {
  for (int i = 0; i < m; ++i) {
    const int64_t r = first + i;
    const float* from = sums + i * kPanel;
    float* to = y.row<float>(r) + o;
    for (int j = 0; j < n; j += kLanes) {
      const int lanes = n - j < kLanes ? n - j : kLanes;
      F v = load(from + j);
      if (e.bias) v = v + load(e.bias + o + j, lanes);
      v = act(v);
      if (e.scale) v = v * set(e.scale[r]);
      if (e.gate.data) v = v * load(e.gate.row<float>(r) + o + j, lanes);
      if (e.residual.data) v = v + load(e.residual.row<float>(r) + o + j, lanes);
      store(to + j, v, lanes);
    }
  }
}

}  // namespace

int64_t matmul_scratch(const Tensor& weight, int64_t rows) { return rows * weight[1] * int64_t(sizeof(float)); }

void matmul(const Context& cx, const Rows& x, int64_t rows, const Tensor& weight, const Epilogue& e, const Rows& y,
            void* scratch) {
  if (rows == 0) return;
  const int64_t out = weight[0], in = weight[1];
  const Tiles tiles(rows);
  float* interleaved = static_cast<float*>(scratch);  // (tile, in, height)
  cx.parallel_for(tiles.count, [&](int64_t i, int) {
    interleave(x, tiles.begin(i), tiles.height(i), in, interleaved + tiles.begin(i) * in);
  });
  cx.parallel_for(ceil_div(out, kPanel), [&](int64_t p, int worker) {
    float* panel = cx.local<float>(worker, (in + kTileRows) * kPanel);
    float* sums = panel + in * kPanel;
    gather_panel(weight, p, panel);
    const int64_t o = p * kPanel;
    const int n = out - o < kPanel ? int(out - o) : kPanel;
    for (int64_t i = 0; i < tiles.count; ++i) {
      multiply_tile(tiles.height(i), interleaved + tiles.begin(i) * in, panel, in, sums);
      with_activation(e.activation, [&](auto act) { finish(e, y, tiles.begin(i), tiles.height(i), o, n, sums, act); });
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
