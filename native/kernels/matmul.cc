#include "kernels/matmul.h"

#include "kernels/matmul_finish.h"
#include "kernels/matmul_interleave.h"
#include "kernels/matmul_pairs.h"
#include "kernels/matmul_quantised.h"
#include "kernels/matmul_rows.h"
#include "kernels/matmul_tile.h"
#include "kernels/matmul_tiles.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Up to here weights are widened as they are read, above into f32 panels that the tiles then read several times.
constexpr int64_t kFewRows = 4;
// Rows by panels that such a kernel takes at once: several panels are several streams from memory.
#if defined(STATESPACE_ISA_AVX512)
constexpr int64_t kFewSums = 8;
#else
constexpr int64_t kFewSums = 4;
#endif
constexpr int64_t kManyRows = 64;
// Up to so many panels the weight is the smaller side.
constexpr int64_t kNarrow = 8;
// Products of pairs of bf16 are for matrices of at least so many inputs and outputs. The small ones cost little, and
// what they make (dt, B and C of a scan, a router's logits) is worth its bits.
constexpr int64_t kLargeMatrix = 256;
// Rows of x that stay in L2 while the panels pass by.
constexpr int64_t kResidentBytes = 640 << 10;

int64_t even(int64_t n) { return (n + 1) / 2 * 2; }

// Rows of x in tiles of nearly equal height, so that no tile is a thin remainder; tiles in groups that fit into L2.
struct Tiles {
  Tiles(int64_t rows, int64_t row_bytes) : rows(rows), count(ceil_div(rows, kTileRows)) {
    const int64_t fit = std::max<int64_t>(1, kResidentBytes / (kTileRows * row_bytes));
    groups = ceil_div(count, fit);
  }
  int64_t begin(int64_t i) const { return i * rows / count; }
  int height(int64_t i) const { return int(begin(i + 1) - begin(i)); }
  int64_t group_begin(int64_t g) const { return g * count / groups; }
  int64_t rows, count, groups;
};

int64_t round_up(int64_t n, int64_t step) { return ceil_div(n, step) * step; }

// A weight in rows is packed whole for many rows of x: more than stay in L2 while its own rows pass by, as those of f32
// and of pairs do where they are long enough for their sums to cost little.
bool packs_whole(const Matrix& w, int64_t rows, bool pairs) {
  constexpr int64_t kMost = 128, kLong = 512;
  if (w.layout != Layout::rows || rows < kManyRows) return false;
  const bool passes = rows <= kMost && w.in >= kLong && rows * w.in * (pairs ? 2 : 4) <= kResidentBytes;
  return !passes || !(pairs || w.dtype == DType::f32);
}
int64_t packed_bytes(const Matrix& w) { return w.panels() * panel_bytes(w.dtype, w.in); }

bool rounds_x(const Context& cx, const Matrix& w, const Epilogue& e) {
  return w.dtype == DType::bf16 && !e.exact && !cx.exact && std::min(w.in, w.out) >= kLargeMatrix;
}

// Quantised weights: x is rounded to int8, by 0.5 % of its values' size, for the largest matrices only. Those below
// cost little and get twice the bits, so that a small model is as good as its weights; small ones are exact, as above.
constexpr int64_t kLargeQuantised = 512;
int planes_of(const Context& cx, const Matrix& w, const Epilogue& e) {
  const int64_t side = std::min(w.in, w.out);
  return e.exact || cx.exact || side < kLargeMatrix ? 3 : side < kLargeQuantised ? 2 : 1;
}

// A small quantised matrix that many rows are multiplied with is widened whole: three planes cost more than f32, as
// each row is rounded three times for few outputs.
bool widens_whole(const Matrix& w, int64_t rows) {
  constexpr int64_t kMost = 4 << 20;
  return is_quantised(w.dtype) && rows >= kManyRows && std::min(w.in, w.out) < kLargeMatrix &&
         w.panels() * kPanel * w.in * 4 <= kMost;
}
int64_t widened_bytes(const Matrix& w) { return w.panels() * panel_bytes(DType::f32, w.in); }

// One product by a packed weight: x is interleaved into scratch memory, then tasks of a group of tiles by a few panels.
class Product {
 public:
  Product(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, const Epilogue& e, const Rows& y,
          void* scratch)
      : cx_(cx),
        x_(x),
        w_(w),
        e_(e),
        y_(y),
        pairs_(rounds_x(cx, w, e) && has_bf16_dot()),
        few_(rows <= kFewRows),
        tiles_(rows, even(w.in) * (pairs_ ? 2 : 4)),
        x_tiles_(static_cast<char*>(scratch)) {}

  void run() {
    const int64_t panels = w_.panels(), threads = cx_.threads();
    if (panels <= kNarrow && tiles_.count >= 4 * threads) return narrow();
    if (tiles_.count == 1)
      prepare(0);
    else
      cx_.parallel_for(tiles_.count, [&](int64_t i, int) { prepare(i); });
    if (!few_) return tasks<1>(panels_a_task());
    // Several panels at once where that leaves every thread enough of them.
    const int64_t wide = kFewSums / std::max<int64_t>(1, tiles_.rows);
    if (wide >= 4 && panels >= 16 * threads) return tasks<4>(4);
    if (wide >= 2 && panels >= 8 * threads) return tasks<2>(2);
    tasks<1>(1);
  }

  // Of few rows and a packed weight, on one thread: what goes before, and panels [begin, end).
  void prepare_all() const {
    for (int64_t i = 0; i < tiles_.count; ++i) prepare(i);
  }
  template <int P>
  void few_panels(int64_t begin, int64_t end, float* sums) const {
    int64_t p = begin;
    if constexpr (P > 1)
      for (; p + P <= end; p += P) few<P>(p, w_.panel(p), sums);
    for (; p < end; ++p) few<1>(p, w_.panel(p), sums);
  }

 private:
  // Several where one is soon multiplied; not so many that threads end at different times.
  int64_t panels_a_task() const {
    constexpr int64_t kWork = 8 << 10;  // steps of k by tiles: some 30 µs
    const int64_t most = std::min<int64_t>(4, w_.panels() * tiles_.groups / (8 * cx_.threads()));
    return std::clamp<int64_t>(kWork * tiles_.groups / std::max<int64_t>(1, tiles_.count * w_.in), 1,
                               std::max<int64_t>(1, most));
  }

  char* tile(int64_t i) const { return x_tiles_ + tiles_.begin(i) * even(w_.in) * (pairs_ ? 2 : 4); }

  void prepare(int64_t i) const {
    with_float(x_.dtype, [&](auto type) {
      using T = decltype(type);
      float* to = reinterpret_cast<float*>(tile(i));
#if defined(STATESPACE_BF16_DOT)
      if (pairs_) return interleave_pairs<T>(x_, tiles_.begin(i), tiles_.height(i), w_.in, to);
#endif
      interleave<T>(x_, tiles_.begin(i), tiles_.height(i), w_.in, to);
    });
  }

  // A few panels, which stay in L2 while the rows pass by: each is interleaved and multiplied while it is near.
  void narrow() {
    constexpr int64_t kTiles = 2;
    const int64_t wide = pairs_ || w_.dtype == DType::f32 ? 0 : w_.in * kPanel;
    cx_.parallel_for(ceil_div(tiles_.count, kTiles), [&](int64_t task, int worker) {
      float* sums = cx_.local<float>(worker, kTileRows * kPanel + wide);
      const int64_t begin = task * kTiles, end = std::min(tiles_.count, begin + kTiles);
      for (int64_t i = begin; i < end; ++i) prepare(i);
      for (int64_t p = 0; p < w_.panels(); ++p)
        many(begin, end, p, w_.panel(p), w_.panel(p + 1), sums + kTileRows * kPanel, sums);
    });
  }

  // P: panels that a kernel takes at once.
  template <int P>
  void tasks(int64_t panels_a_task) {
    const int64_t panels = w_.panels(), parts = ceil_div(panels, panels_a_task);
    const int64_t wide = pairs_ || few_ || w_.dtype == DType::f32 ? 0 : w_.in * kPanel * 4;
    const auto run = [&](int64_t task, int worker) {
      float* sums = cx_.local<float>(worker, kTileRows * 4 * kPanel + wide / 4);
      float* widened = sums + kTileRows * 4 * kPanel;
      const int64_t group = task / parts, begin = task % parts * panels_a_task;
      const int64_t end = begin + panels_a_task < panels ? begin + panels_a_task : panels;
      int64_t p = begin;
      if constexpr (P > 1)
        for (; p + P <= end; p += P) few<P>(p, w_.panel(p), sums);
      for (; p < end; ++p) {
        const uint8_t* panel = w_.panel(p);
        if (few_)
          few<1>(p, panel, sums);
        else
          many(tiles_.group_begin(group), tiles_.group_begin(group + 1), p, panel, next_panel(p, end, panels_a_task),
               widened, sums);
      }
    };
    tiles_.groups == 1 ? cx_.parallel_stretches(parts, run) : cx_.parallel_for(tiles_.groups * parts, run);
  }

  // The panel that this thread will probably read after `p`: behind the last of a task, where the others have taken one
  // task each.
  const uint8_t* next_panel(int64_t p, int64_t end, int64_t panels_a_task) const {
    if (p + 1 < end) return w_.panel(p + 1);
    const int64_t far = tiles_.groups == 1 ? p + 1 : p + 1 + (cx_.threads() - 1) * panels_a_task;
    return w_.panel(far < w_.panels() ? far : p);
  }

  template <int P>
  void few(int64_t p, const uint8_t* panel, float* sums) const {
    for (int64_t i = 0; i < tiles_.count; ++i) {  // on a narrow machine a few rows are several tiles
      const int m = tiles_.height(i);
      if (m == 1) few_rows<1, P>(i, panel, sums);
      if (m == 2) few_rows<2, P>(i, panel, sums);
      if (m == 3) few_rows<3, P>(i, panel, sums);
      if (m == 4) few_rows<4, P>(i, panel, sums);
      store_panels(i, p, P, sums);
    }
  }

  template <int M, int P>
  void few_rows(int64_t i, const uint8_t* panel, float* sums) const {
    const int64_t stride = panel_bytes(w_.dtype, w_.in);
    if constexpr (M * P <= kFewSums) {
#if defined(STATESPACE_BF16_DOT)
      if (pairs_) return multiply_pairs<M, P, P == 1>(reinterpret_cast<uint32_t*>(tile(i)), panel, stride, w_.in, sums);
#endif
      with_reader(w_.dtype, [&](auto reader) {
        multiply_widening<decltype(reader), M, P>(reinterpret_cast<float*>(tile(i)), panel, stride, w_.in, sums);
      });
    }
  }

  // Tiles [begin, end) times one panel.
  void many(int64_t begin, int64_t end, int64_t p, const uint8_t* panel, const uint8_t* next, float* widened,
            float* sums) const {
    const bool widens = !pairs_ && w_.dtype != DType::f32;
    if (widens) with_reader(w_.dtype, [&](auto reader) { widen_panel<decltype(reader)>(panel, w_.in, widened); });
    const void* w = widens ? static_cast<const void*>(widened) : panel;
    // The first tile fetches its own panel, the others the next one between them.
    const bool first = !widens;
    const int64_t lines = panel_bytes(w_.dtype, w_.in) / 64 / std::max<int64_t>(1, end - begin - first) + 1;
    for (int64_t i = begin; i < end; ++i) {
      Ahead ahead;
      if (const int64_t at = i - begin - first; at >= 0)
        ahead = {next + at * lines * 64, std::max<int64_t>(2, w_.in / lines / 2 * 2)};
      fetch_results(e_, y_, tiles_.begin(i), tiles_.height(i), p * kPanel, w_.out);
      multiply(i, p, first && i == begin, w, sums, ahead);
      store_panels(i, p, 1, sums);
    }
  }

  // Tile i times panel p.
  void multiply(int64_t i, int64_t p, bool first, const void* panel, float* sums, Ahead ahead) const {
#if defined(STATESPACE_BF16_DOT)
    if (pairs_) {
      const auto* x = reinterpret_cast<uint32_t*>(tile(i));
      const auto* w = static_cast<const uint8_t*>(panel);
      if (first) return multiply_pairs<true>(tiles_.height(i), x, w, w_.in, sums, ahead);
      return multiply_pairs<false>(tiles_.height(i), x, w, w_.in, sums, ahead);
    }
#endif
    const auto* x = reinterpret_cast<float*>(tile(i));
    const auto* w = static_cast<const float*>(panel);
    const int64_t outputs = w_.out - p * kPanel;
    if (first) return multiply_tile<true>(tiles_.height(i), outputs, x, w, w_.in, sums, ahead);
    multiply_tile<false>(tiles_.height(i), outputs, x, w, w_.in, sums, ahead);
  }

  void store_panels(int64_t i, int64_t p, int count, const float* sums) const {
    const int64_t o = p * kPanel;
    const int n = w_.out - o < count * kPanel ? int(w_.out - o) : count * kPanel;
    finish(e_, y_, tiles_.begin(i), tiles_.height(i), o, n, sums, count * kPanel);
  }

  const Context& cx_;
  const Rows& x_;
  const Matrix w_;
  const Epilogue& e_;
  const Rows& y_;
  const bool pairs_, few_;
  const Tiles tiles_;
  char* x_tiles_;
};

}  // namespace

int64_t matmul_scratch(const Tensor& weight, int64_t rows) {
  const int64_t in = weight[weight.rank - 1];
  const Matrix w = matrix_of(weight);
  int64_t bytes =
      is_quantised(weight.dtype) ? quantised_scratch(in, rows) : rows_scratch(in, rows) * int64_t(sizeof(float));
  if (widens_whole(w, rows)) bytes = round_up(rows * in * int64_t(sizeof(float)), 64) + widened_bytes(w);
#if defined(STATESPACE_TILES)
  bytes = std::max(bytes, tile_scratch(in, rows));
#endif
  return round_up(bytes, 64) + (packs_whole(w, rows, false) ? packed_bytes(w) : 0);
}

void matmul(const Context& cx, const Rows& x, int64_t rows, const Tensor& weight, int64_t index, const Epilogue& e,
            const Rows& y, void* scratch) {
  if (rows == 0) return;
  Matrix w = matrix_of(weight, index);
  const bool rounds = rounds_x(cx, w, e) && rows > kFewRows;
#if defined(STATESPACE_TILES)
  const bool tiles = cx.tiles != TileUnit::none && rounds && rows >= kLeastTileRows;
#else
  constexpr bool tiles = false;
#endif
  if (packs_whole(w, rows, rounds && has_bf16_dot() && !tiles)) {
    Matrix packed = w;
    packed.layout = Layout::packed;
    packed.data = static_cast<uint8_t*>(scratch) + matmul_scratch(weight, rows) - packed_bytes(w);
    cx.parallel_for(w.panels(), [&](int64_t p, int) { pack_panel(w, p, const_cast<uint8_t*>(packed.panel(p))); });
    w = packed;
  }
  if (widens_whole(w, rows)) {
    float* wide = static_cast<float*>(scratch) + round_up(rows * w.in, 16);
    widen_panels(cx, w, wide);
    w.dtype = DType::f32, w.data = reinterpret_cast<const uint8_t*>(wide);
  }
#if defined(STATESPACE_TILES)
  if (tiles)
    return cx.tiles == TileUnit::amx ? TileProduct<AmxTiles>(cx, x, rows, w, e, y, scratch).run()
                                     : TileProduct<EmulatedTiles>(cx, x, rows, w, e, y, scratch).run();
#endif
  if (is_quantised(w.dtype)) return matmul_quantised(cx, x, rows, w, planes_of(cx, w, e), e, y, scratch);
  if (w.layout == Layout::rows) return multiply_by_rows(cx, x, rows, w, rounds, e, y, scratch);
  Product(cx, x, rows, w, e, y, scratch).run();
}

bool chains(const Tensor& weight, int64_t rows) {
  return rows <= kFewRows && weight.layout == Layout::packed && !is_quantised(weight.dtype);
}

void matmul_chains(const Context& cx, const std::vector<Multiplication>& all, int64_t length) {
  if (all.empty()) return;
  std::vector<Product> products;
  products.reserve(all.size());
  int64_t rows = 1;
  for (const Multiplication& m : all) {
    products.emplace_back(cx, m.x, m.rows, matrix_of(*m.weight, m.index), m.epilogue, m.y, m.scratch);
    rows = std::max(rows, m.rows);
  }
  const int64_t chain_count = int64_t(all.size()) / length, panels = matrix_of(*all[0].weight).panels();
  const int64_t most = kFewSums / rows;
  const auto tasks = [&]<int P>() {
    const int64_t parts = ceil_div(panels, P);
    cx.parallel_stretches(chain_count * parts, [&](int64_t task, int worker) {
      float* sums = cx.local<float>(worker, kTileRows * 4 * kPanel);
      const int64_t begin = task % parts * P, end = std::min(panels, begin + P);
      for (int64_t i = 0; i < length; ++i) {
        const Product& product = products[task / parts * length + i];
        product.template few_panels<P>(begin, end, sums);
      }
    });
  };
  for (size_t i = 0; i < all.size(); ++i)
    if (i == 0 || all[i].scratch != all[i - 1].scratch) products[i].prepare_all();
  const int64_t each = chain_count * panels / cx.threads();
  if (most >= 4 && each >= 16) return tasks.template operator()<4>();
  if (most >= 2 && each >= 8) return tasks.template operator()<2>();
  tasks.template operator()<1>();
}

}  // namespace statespace::STATESPACE_ISA
