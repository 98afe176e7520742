#include "kernels/matmul_gradient.h"

#include "kernels/matmul_finish.h"
#include "kernels/matmul_tile.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The inner dimension is taken in blocks of so many: a tile of the left side then lies in L1, a panel of the right one
// in L2.
constexpr int64_t kDepth = 512;
// Tiles that share a packed panel of the right side, at most.
constexpr int64_t kTilesATask = 64;

int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

// C (m, n) = A (m, k) B (k, n). Left and Right say how their sides are packed:
//   left.pack(first row, height, first k, depth, to (depth, height))
//   right.pack(first k, depth, first column, width, to (depth, kPanel))
template <class Left, class Right>
void product(const Context& cx, const Left& left, const Right& right, int64_t m, int64_t n, int64_t k, const Rows& c,
             bool add, float* packed) {
  if (m == 0 || n == 0) return;
  const int64_t tiles = ceil_div(m, kTileRows), panels = ceil_div(n, kPanel);
  auto begin = [&](int64_t tile) { return tile * m / tiles; };
  auto height = [&](int64_t tile) { return int(begin(tile + 1) - begin(tile)); };
  cx.parallel_for(tiles, [&](int64_t i, int) {
    for (int64_t from = 0; from < k; from += kDepth)
      left.pack(begin(i), height(i), from, std::min(kDepth, k - from), packed + begin(i) * k + from * height(i));
  });
  const int64_t groups = ceil_div(tiles, kTilesATask);
  cx.parallel_for(groups * panels, [&](int64_t task, int worker) {
    float* panel = cx.local<float>(worker, kDepth * kPanel + kTileRows * kPanel);
    float* sums = panel + kDepth * kPanel;
    const int64_t group = task / panels, column = task % panels * kPanel, width = std::min<int64_t>(kPanel, n - column);
    for (int64_t from = 0; from < std::max<int64_t>(k, 1); from += kDepth) {
      const int64_t depth = std::min(kDepth, k - from);
      right.pack(from, depth, column, width, panel);
      for (int64_t i = group * tiles / groups; i < (group + 1) * tiles / groups; ++i) {
        multiply_tile<false>(height(i), packed + begin(i) * k + from * height(i), panel, depth, sums, {});
        for (int r = 0; r < height(i); ++r) {
          float* to = c.row<float>(begin(i) + r) + column;
          for (int64_t j = 0; j < width; j += kLanes) {
            const int lanes = lanes_of(width - j);
            const F v = load(sums + r * kPanel + j);
            store(to + j, add || from > 0 ? load(to + j, lanes) + v : v, lanes);
          }
        }
      }
    }
  });
}

// Rows as they are, (m, k).
template <class T>
struct LeftRows {
  const Rows& rows;
  void pack(int64_t first, int height, int64_t from, int64_t depth, float* to) const {
    for (int i = 0; i < height; ++i) {
      const T* row = rows.row<T>(first + i) + from;
      for (int64_t k = 0; k < depth; ++k) to[k * height + i] = to_float(row[k]);
    }
  }
};

// Columns of rows (k, m).
template <class T>
struct LeftColumns {
  const Rows& rows;
  void pack(int64_t first, int height, int64_t from, int64_t depth, float* to) const {
    for (int64_t k = 0; k < depth; ++k, to += height) {
      const T* row = rows.row<T>(from + k) + first;
      for (int i = 0; i < height; i += kLanes) {
        const int lanes = lanes_of(height - i);
        store(to + i, load(row + i, lanes), lanes);
      }
    }
  }
};

// Rows (k, n).
template <class T>
struct RightRows {
  const Rows& rows;
  void pack(int64_t from, int64_t depth, int64_t column, int64_t width, float* to) const {
    for (int64_t k = 0; k < depth; ++k, to += kPanel) {
      const T* row = rows.row<T>(from + k) + column;
      for (int64_t j = 0; j < kPanel; j += kLanes) {
        const int64_t left = width - j;
        store(to + j, left >= kLanes ? load(row + j) : left > 0 ? load(row + j, int(left)) : zero());
      }
    }
  }
};

bool in_rows(const Tensor& weight) { return weight.layout == Layout::rows && !is_quantised(weight.dtype); }

}  // namespace

int64_t gradient_scratch(const Tensor& weight, int64_t rows) {
  const int64_t out = weight[weight.rank - 2], in = weight[weight.rank - 1];
  const int64_t left = round_up(rows * out, 16) * 4;
  return left + (in_rows(weight) ? 0 : round_up(out * in * 4, 64)) + 64;
}

bool rounds_gradients(const Tensor&) { return false; }

void matmul_dx(const Context& cx, const Rows& dy, int64_t rows, const Tensor& weight, int64_t index, const Rows& dx,
               bool add, void* scratch) {
  const int64_t out = weight[weight.rank - 2], in = weight[weight.rank - 1];
  float* packed = static_cast<float*>(scratch);
  Rows w;
  w.dtype = weight.dtype;
  if (in_rows(weight)) {
    const int64_t bytes = weight.dtype == DType::f32 ? 4 : 2;
    w.stride = weight.rank == 2 ? weight.row_stride : in;
    w.data = weight.as<char>() + index * out * in * bytes;
  } else {  // widened once: a panel of it lies across blocks
    float* wide = packed + round_up(rows * out, 16);
    cx.parallel_for(out, [&](int64_t i, int) { weight_row(weight, index, i, wide + i * in); });
    w.data = wide, w.stride = in, w.dtype = DType::f32;
  }
  with_float(w.dtype, [&](auto type) {
    product(cx, LeftRows<float>{dy}, RightRows<decltype(type)>{w}, rows, in, out, dx, add, packed);
  });
}

void matmul_dweight(const Context& cx, const Rows& dy, const Rows& x, int64_t rows, int64_t out, int64_t in,
                    float* dweight, int64_t stride, bool add, bool, void* scratch) {
  Rows c;
  c.data = dweight, c.stride = stride;
  with_float(x.dtype, [&](auto type) {
    product(cx, LeftColumns<float>{dy}, RightRows<decltype(type)>{x}, out, in, rows, c, add,
            static_cast<float*>(scratch));
  });
}

}  // namespace statespace::STATESPACE_ISA
