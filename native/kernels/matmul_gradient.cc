#include "kernels/matmul_gradient.h"

#include "isa/stream.h"
#include "kernels/matmul_finish.h"
#include "kernels/matmul_gradient_few.h"
#include "kernels/matmul_interleave.h"
#include "kernels/matmul_pairs.h"
#include "kernels/matmul_tile.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The inner dimension is taken in nearly equal blocks of at most so many: a tile of the left side then lies in L1, a
// panel of the right one in L2 (256 took a tenth longer: what is there already is added to once more).
constexpr int64_t kDepth = 512;
// Tiles of a task, at most: they stay in L2 while the panels pass by.
constexpr int64_t kTilesATask = 8;
// Rows of the right side that are packed at once: what is read lies end to end.
constexpr int64_t kPackedRows = 16;
// Up to this depth a large product takes less time than what is there already to be read before it is written over.
constexpr int64_t kStreamedDepth = 128;
// As in the forward (matmul.cc): products of pairs are for large matrices.
constexpr int64_t kLargeMatrix = 256;

int64_t even(int64_t n) { return ceil_div(n, 2) * 2; }

// Tiles of m rows: as many for each thread where that makes none of them thin. What is summed does not depend on it.
int64_t even_tiles(int64_t m, int64_t threads) {
  const int64_t least = ceil_div(m, kTileRows), all = ceil_div(least, threads) * threads;
  return m >= all * kTileRows * 3 / 4 ? all : least;
}

// Some neighbouring tiles of the left side: where they begin among its rows, and the next one's begin.
struct SomeTiles {
  int64_t count;
  int64_t begins[kTilesATask + 1];
  int height(int64_t i) const { return int(begins[i + 1] - begins[i]); }
};

// Rows as they are, (m, k), in tiles `tile` apart.
struct LeftRows {
  const Rows& rows;
  void pack(const SomeTiles& tiles, int64_t from, int64_t depth, float* to, int64_t tile) const {
    for (int64_t i = 0; i < tiles.count; ++i)
      interleave<float>(rows, tiles.begins[i], tiles.height(i), depth, to + i * tile, from);
  }
#if defined(STATESPACE_BF16_DOT)
  STATESPACE_BF16_DOT void pack_pairs(const SomeTiles& tiles, int64_t from, int64_t depth, float* to,
                                      int64_t tile) const {
    for (int64_t i = 0; i < tiles.count; ++i)
      interleave_pairs<float>(rows, tiles.begins[i], tiles.height(i), depth, to + i * tile, from);
  }
#endif
};

// Columns of rows (k, m), in tiles: row by row for all of them, because rows lie far apart. Whole vectors are stored,
// each over the lanes past its tile's height that the one before it left.
struct LeftColumns {
  const Rows& rows;
  void fetch(const SomeTiles& tiles, int64_t k) const {
    const float* row = rows.row<float>(k);
    for (int64_t c = tiles.begins[0]; c < tiles.begins[tiles.count]; c += 16) prefetch(row + c);
  }
  void pack(const SomeTiles& tiles, int64_t from, int64_t depth, float* to, int64_t tile) const {
    for (int64_t k = 0; k < depth; ++k) {
      if (k + kAhead < depth) fetch(tiles, from + k + kAhead);
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int height = tiles.height(t);
        const float* row = rows.row<float>(from + k) + tiles.begins[t];
        float* at = to + t * tile + k * height;
        for (int i = 0; i < height; i += kLanes) {
          const int lanes = lanes_of(height - i);
          const F v = load(row + i, lanes);
          k + 1 < depth ? store(at + i, v) : store(at + i, v, lanes);
        }
      }
    }
  }
#if defined(STATESPACE_BF16_DOT)
  STATESPACE_BF16_DOT void pack_pairs(const SomeTiles& tiles, int64_t from, int64_t depth, float* to,
                                      int64_t tile) const {
    for (int64_t k = 0; k < depth; k += 2) {
      for (int64_t next = k + kAhead; next < std::min(depth, k + kAhead + 2); ++next) fetch(tiles, from + next);
      for (int64_t t = 0; t < tiles.count; ++t) {
        const int height = tiles.height(t);
        const float* row = rows.row<float>(from + k) + tiles.begins[t];
        const float* next = k + 1 < depth ? rows.row<float>(from + k + 1) + tiles.begins[t] : nullptr;
        const F second = next ? load(next, height) : zero();
        const F v = as_floats(zip_pairs(narrow_bf16(load(row, height)), narrow_bf16(second)));
        float* at = to + t * tile + k / 2 * height;
        k + 2 < depth ? store(at, v) : store(at, v, height);
      }
    }
  }
#endif

 private:
  static constexpr int64_t kAhead = 8;
};

// Rows (k, n) in panels: rows [k, k + count) of a block, of which `to` (panels, depth, kPanel) holds all.
template <class T>
struct RightRows {
  const Rows& rows;
  static F load_some(const T* from, int64_t left) {
    return left >= kLanes ? load(from) : left > 0 ? load(from, int(left)) : zero();
  }
  void pack(int64_t from, int64_t k, int64_t count, int64_t depth, int64_t n, float* to) const {
    for (int64_t i = k; i < k + count; ++i) {
      const T* row = rows.row<T>(from + i);
      for (int64_t column = 0; column < n; column += kLanes)
        store(to + (column / kPanel * depth + i) * kPanel + column % kPanel, load_some(row + column, n - column));
      const int64_t end = ceil_div(n, kPanel) * kPanel;
      for (int64_t column = ceil_div(n, kLanes) * kLanes; column < end; column += kLanes)
        store(to + (column / kPanel * depth + i) * kPanel + column % kPanel, zero());
    }
  }
#if defined(STATESPACE_BF16_DOT)
  // The same as pairs of rows: (panels, depth / 2, kPanel).
  STATESPACE_BF16_DOT void pack_pairs(int64_t from, int64_t k, int64_t count, int64_t depth, int64_t n,
                                      float* to) const {
    for (int64_t i = k; i < k + count; i += 2) {
      const T* row = rows.row<T>(from + i);
      const T* next = i + 1 < k + count ? rows.row<T>(from + i + 1) : nullptr;
      for (int64_t column = 0; column < ceil_div(n, kPanel) * kPanel; column += kLanes) {
        const F second = next ? load_some(next + column, n - column) : zero();
        const Pairs pairs = zip_pairs(narrow_bf16(load_some(row + column, n - column)), narrow_bf16(second));
        store_pairs(to + (column / kPanel * (even(depth) / 2) + i / 2) * kPanel + column % kPanel, pairs);
      }
    }
  }
#endif
};

// C (m, n) = A (m, k) B (k, n), or with `add` more of it.
template <class Left, class Right>
class GradientProduct {
 public:
  GradientProduct(const Context& cx, const Left& left, const Right& right, int64_t m, int64_t n, int64_t k,
                  const Rows& c, bool pairs, float* packed)
      : cx_(cx),
        left_(left),
        right_(right),
        n_(n),
        tiles_(even_tiles(m, cx.threads())),
        m_(m),
        k_(k),
        c_(c),
        pairs_(pairs),
        packed_(packed) {}

  void run(bool add) {
    if (m_ == 0 || n_ == 0) return;
    streamed_ = !add && k_ <= kStreamedDepth && m_ * n_ * int64_t(sizeof(float)) >= kStreamedBytes && !c_.index &&
                streams(c_.row<float>(0), c_.stride);
    const int64_t blocks = std::max<int64_t>(1, ceil_div(k_, kDepth));
    auto edge = [&](int64_t b) { return b == blocks ? k_ : b * k_ / blocks / 16 * 16; };  // whole vectors, and pairs
    for (int64_t b = 0; b < blocks; ++b) block(edge(b), edge(b + 1) - edge(b), add || b > 0);
  }

 private:
  int64_t begin(int64_t tile) const { return tile * m_ / tiles_; }
  int height(int64_t tile) const { return int(begin(tile + 1) - begin(tile)); }
  // Rows of kPanel or of a tile that `depth` of the inner dimension take.
  int64_t steps(int64_t depth) const { return pairs_ ? even(depth) / 2 : depth; }

  void block(int64_t from, int64_t depth, bool add) const {
    cx_.parallel_for(ceil_div(depth, kPackedRows), [&](int64_t i, int) {
      const int64_t k = i * kPackedRows, count = std::min(kPackedRows, depth - k);
#if defined(STATESPACE_BF16_DOT)
      if (pairs_) return right_.pack_pairs(from, k, count, depth, n_, packed_);
#endif
      right_.pack(from, k, count, depth, n_, packed_);
    });
    // As many tasks for each thread, none of them too large.
    const int64_t threads = cx_.threads(), tasks = threads * ceil_div(tiles_, threads * kTilesATask);
    cx_.parallel_for(std::min(tasks, tiles_), [&](int64_t task, int worker) {
      const int64_t count = std::min(tasks, tiles_), first = task * tiles_ / count, end = (task + 1) * tiles_ / count;
      tiles(first, end, from, depth, add, worker);
    });
  }

  void tiles(int64_t first, int64_t end, int64_t from, int64_t depth, bool add, int worker) const {
    const int64_t tile = ceil_div((steps(depth) + 1) * kTileRows, 16) * 16;
    float* sums = cx_.local<float>(worker, kTileRows * kPanel + (end - first) * tile + kLanes);
    float* left = sums + kTileRows * kPanel;
    SomeTiles some{end - first, {}};
    for (int64_t i = first; i <= end; ++i) some.begins[i - first] = begin(i);
#if defined(STATESPACE_BF16_DOT)
    if (pairs_)
      left_.pack_pairs(some, from, depth, left, tile);
    else
#endif
      left_.pack(some, from, depth, left, tile);
    for (int64_t column = 0; column < n_; column += kPanel) {
      const float* panel = packed_ + column * steps(depth);
      for (int64_t i = first; i < end; ++i) {
        if (!streamed_) fetch(i, column);
        multiply(height(i), n_ - column, left + (i - first) * tile, panel, depth, sums);
        finish(i, column, sums, add);
      }
    }
    if (streamed_) end_streams();
  }

  void multiply(int rows, int64_t outputs, const float* left, const float* panel, int64_t depth, float* sums) const {
#if defined(STATESPACE_BF16_DOT)
    if (pairs_)
      return multiply_pairs<false>(rows, reinterpret_cast<const uint32_t*>(left),
                                   reinterpret_cast<const uint8_t*>(panel), depth, sums, {});
#endif
    multiply_tile<false>(rows, outputs, left, panel, depth, sums, {});
  }

  // Where a product will be written or added to.
  void fetch(int64_t tile, int64_t column) const {
    for (int r = 0; r < height(tile); ++r)
      for (int64_t j = 0; j < std::min<int64_t>(kPanel, n_ - column); j += 16)
        prefetch(c_.row<float>(begin(tile) + r) + column + j);
  }
  void finish(int64_t tile, int64_t column, const float* sums, bool add) const {
    const int64_t width = std::min<int64_t>(kPanel, n_ - column);
    for (int r = 0; r < height(tile); ++r) {
      float* to = c_.row<float>(begin(tile) + r) + column;
      for (int64_t j = 0; j < width; j += kLanes) {
        const int lanes = lanes_of(width - j);
        const F v = load(sums + r * kPanel + j);
        if (streamed_ && lanes == kLanes)
          stream(to + j, v);
        else
          store(to + j, add ? load(to + j, lanes) + v : v, lanes);
      }
    }
  }

  const Context& cx_;
  const Left& left_;
  const Right& right_;
  const int64_t n_, tiles_, m_, k_;
  const Rows& c_;
  const bool pairs_;
  bool streamed_ = false;
  float* packed_;
};

template <class Left, class T>
void product(const Context& cx, const Left& left, const RightRows<T>& right, int64_t m, int64_t n, int64_t k,
             const Rows& c, bool add, bool pairs, float* packed) {
  GradientProduct<Left, RightRows<T>>(cx, left, right, m, n, k, c, pairs, packed).run(add);
}

bool in_rows(const Tensor& weight) { return weight.layout == Layout::rows && !is_quantised(weight.dtype); }

// Floats of a block of the right side: (kDepth, in) in panels.
int64_t block_floats(int64_t in) { return kDepth * ceil_div(in, kPanel) * kPanel; }

bool has_pairs() {
#if defined(STATESPACE_BF16_DOT)
  return has_bf16_dot();
#else
  return false;
#endif
}

}  // namespace

int64_t gradient_scratch(const Tensor& weight) {
  const int64_t out = weight[weight.rank - 2], in = weight[weight.rank - 1];
  return std::max(block_floats(in), few_floats(in)) * 4 + (in_rows(weight) ? 0 : ceil_div(out * in * 4, 64) * 64);
}

bool rounds_gradients(const Context& cx, const Tensor& weight) {
  const int64_t side = std::min(weight[weight.rank - 2], weight[weight.rank - 1]);
  return weight.dtype == DType::bf16 && !cx.exact && side >= kLargeMatrix && has_pairs();
}

void matmul_dx(const Context& cx, const Rows& dy, int64_t rows, const Tensor& weight, int64_t index, const Rows& dx,
               bool add, bool pairs, void* scratch) {
  if (rows == 0) return;
  const int64_t out = weight[weight.rank - 2], in = weight[weight.rank - 1];
  float* packed = static_cast<float*>(scratch);
  Rows w;
  w.dtype = weight.dtype;
  if (in_rows(weight)) {
    const int64_t bytes = weight.dtype == DType::f32 ? 4 : 2;
    w.stride = weight.rank == 2 ? weight.row_stride : in;
    w.data = weight.as<char>() + index * out * in * bytes;
  } else {  // widened once: a panel of it lies across blocks
    float* wide = packed + std::max(block_floats(in), few_floats(in));
    cx.parallel_for(out, [&](int64_t i, int) { weight_row(weight, index, i, wide + i * in); });
    w.data = wide, w.stride = in, w.dtype = DType::f32;
  }
  with_float(w.dtype, [&](auto type) {
    if (rows <= kFewGradientRows) return few_dx<decltype(type)>(cx, dy, rows, w, out, in, dx, add, packed);
    product(cx, LeftRows{dy}, RightRows<decltype(type)>{w}, rows, in, out, dx, add, pairs, packed);
  });
}

void matmul_dweight(const Context& cx, const Rows& dy, const Rows& x, int64_t rows, int64_t out, int64_t in,
                    float* dweight, int64_t stride, bool add, bool pairs, void* scratch) {
  Rows c;
  c.data = dweight, c.stride = stride;
  with_float(x.dtype, [&](auto type) {
    if (rows <= kFewGradientRows) return few_dweight<decltype(type)>(cx, dy, x, rows, out, in, dweight, stride, add);
    product(cx, LeftColumns{dy}, RightRows<decltype(type)>{x}, out, in, rows, c, add, pairs,
            static_cast<float*>(scratch));
  });
}

}  // namespace statespace::STATESPACE_ISA
