#include "kernels/matmul_quantised.h"

#include "backend/cpu_tables.h"
#include "kernels/matmul_finish.h"
#include "kernels/matmul_int8.h"
#include "kernels/matmul_int8_squares.h"
#include "kernels/matmul_int8_tiles.h"
#include "kernels/matmul_int8_unpacked.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The least tile over an unpacked panel: lower ones are padded.
constexpr int kLeastRows = kInt8Rows == 6 ? std::min(4, kInt8Few + 1) : 2;
constexpr int kMostPlanes = 3;
// Rows of x that stay in L2 while the panels pass by.
constexpr int64_t kResidentBytes = 512 << 10;

// fn(a dot product) for the type's codes on this machine, of which no more than kMostRun are summed in 16 bits.
template <int kMostRun, class Fn>
void with_dot(const Form& f, Fn&& fn) {
  if (has_int8_dot()) return fn(DotInstruction{});
  const int run = f.run();
  if constexpr (kMostRun >= 8)
    if (run == 8) return fn(DotSums<8>{});
  if constexpr (kMostRun >= 4)
    if (run == 4) return fn(DotSums<4>{});
  if constexpr (kMostRun >= 2)
    if (run == 2) return fn(DotSums<2>{});
  fn(DotAny{});
}

// What multiplies many rows: the vectors, x86's products of words, NEON's squares, or a unit of tiles.
enum class Unit { vectors, words, squares, amx, emulated };

Unit unit_for([[maybe_unused]] const Context& cx, [[maybe_unused]] const Form& form,
              [[maybe_unused]] int64_t int8_rows) {
#if defined(STATESPACE_TILES)
  if (cx.tiles == TileUnit::emulated && int8_rows >= kLeastInt8TileRows) return Unit::emulated;
  if (cx.tiles == TileUnit::amx && int8_rows >= kLeastInt8TileRows && amx_has_int8()) return Unit::amx;
#endif
#if defined(STATESPACE_SQUARES)
  if (has_int8_squares()) return Unit::squares;
#endif
#if defined(STATESPACE_WORDS)
  if (!has_int8_dot() && form.run() == 0) return Unit::words;
#endif
  return Unit::vectors;
}
constexpr Lay lay_for(Unit unit) {
  return unit == Unit::squares ? Lay::squares : unit == Unit::words ? Lay::words : Lay::fours;
}
// Rows of int8 of a tile.
constexpr int most_rows(Unit unit) {
  switch (unit) {
#if defined(STATESPACE_TILES)
    case Unit::amx:
    case Unit::emulated:
      return kTileSide;
#endif
#if defined(STATESPACE_SQUARES)
    case Unit::squares:
      return kSquareRows;
#endif
    default:
      return kInt8Rows;
  }
}
constexpr int kMostRows = std::max({most_rows(Unit::vectors), most_rows(Unit::squares), most_rows(Unit::emulated)});

// `groups`: fours of inputs that share a scale.
void begin_unit([[maybe_unused]] Unit unit, [[maybe_unused]] int groups) {
#if defined(STATESPACE_TILES)
  if (unit == Unit::amx) AmxTiles::begin_bytes(groups);
  if (unit == Unit::emulated) EmulatedTiles::begin_bytes(groups);
#endif
}
void end_unit([[maybe_unused]] Unit unit) {
#if defined(STATESPACE_TILES)
  if (unit == Unit::amx) AmxTiles::end();
#endif
}

template <DType T, class Dot, int M = kInt8Few>
void packed_tile(int rows, const int32_t* x, const uint8_t* panel, int64_t in, float* sums) {
  if constexpr (M > 1)
    if (rows < M) return packed_tile<T, Dot, M - 1>(rows, x, panel, in, sums);
  multiply_packed<T, M, Dot>(x, panel, in, sums);
}

template <class W, class Dot, int M = kInt8Rows>
void unpacked_tile(int rows, const int32_t* x, const uint8_t* w, int64_t in, float* sums, NextPanel next) {
  if constexpr (M > kLeastRows)
    if (rows < M) return unpacked_tile<W, Dot, M - 1>(rows, x, w, in, sums, next);
  multiply_unpacked<M, W, Dot>(x, w, in, sums, next);
}

// Sums of a tile over a panel that lies as W says.
using Multiply = void (*)(int rows, const int32_t* x, const uint8_t* w, int64_t in, float* sums, NextPanel next);
template <class W>
Multiply by_vectors(const Form& form) {
  Multiply multiply = nullptr;
  with_dot<W::kMostRun>(form, [&](auto dot) { multiply = unpacked_tile<W, decltype(dot)>; });
  return multiply;
}
template <class W>
Multiply multiplication([[maybe_unused]] Unit unit, const Form& form) {
#if defined(STATESPACE_TILES)
  if (unit == Unit::amx)
    return [](int, const int32_t* x, const uint8_t* w, int64_t in, float* sums, NextPanel next) {
      multiply_int8_tiles<AmxTiles, W>(x, w, in, sums, next);
    };
  if (unit == Unit::emulated)
    return [](int, const int32_t* x, const uint8_t* w, int64_t in, float* sums, NextPanel next) {
      multiply_int8_tiles<EmulatedTiles, W>(x, w, in, sums, next);
    };
#endif
#if defined(STATESPACE_SQUARES)
  if constexpr (!std::is_same_v<W, AsBytes>)
    if (unit == Unit::squares)
      return [](int rows, const int32_t* x, const uint8_t* w, int64_t in, float* sums, NextPanel next) {
        rows > 2 ? multiply_squares<kSquareRows, W>(x, w, in, sums, next)
                 : multiply_squares<2, W>(x, w, in, sums, next);
      };
#endif
  return by_vectors<W>(form);
}

// x in int8, in tiles of rows, then tasks of a group of tiles by a few panels.
class Product {
 public:
  Product(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, int planes, const Epilogue& e, const Rows& y,
          void* scratch)
      : cx_(cx),
        x_(x),
        rows_(rows),
        w_(w),
        form_(form_of(w.dtype)),
        planes_(planes),
        few_(rows * planes <= kInt8Few),
        unit_(few_ ? Unit::vectors : unit_for(cx, form_, rows * planes)),
        lay_(lay_for(unit_)),
        e_(e),
        y_(y),
        tiles_(few_ ? 1 : ceil_div(rows, most_rows(unit_) / planes)),
        x_tiles_(static_cast<int32_t*>(scratch)) {}

  void run() {
    const int64_t panels = w_.panels(), threads = cx_.threads();
    if (tiles_ == 1)
      prepare(0);
    else
      cx_.parallel_for(tiles_, [&](int64_t i, int) { prepare(i); });
    // Groups that fit into L2, and as many as give every thread work where there are few panels.
    int64_t groups = 1;
    if (w_.layout == Layout::packed) {
      groups = ceil_div(tiles_ * tile_words() * 4, kResidentBytes);
      if (panels < 4 * threads) groups = std::max(groups, std::min(tiles_ / 8, ceil_div(4 * threads, panels)));
    }
    groups = std::max<int64_t>(1, std::min(groups, tiles_));
    const int64_t own = w_.layout == Layout::rows ? panel_bytes(w_.dtype, w_.in) : 0;
    const int64_t unpacked = few_ ? 0 : w_.in / 32 * unpacked_block_bytes(form_, lay_);
    constexpr int64_t kSums = kMostRows * kPanel;
    const auto with_memory = [&](int64_t p, int worker, auto&& multiply) {
      float* sums = cx_.local<float>(worker, kSums + 16 + (own + unpacked) / 4 + 16);
      uint8_t* wide = reinterpret_cast<uint8_t*>(sums + (kSums + 15) / 16 * 16);
      uint8_t* local = wide + unpacked;
      if (own) pack_panel(w_, p, local);
      multiply(own ? local : w_.panel(p), wide, sums);
    };
    const auto tile_panels = [&](int64_t group, int64_t p, const uint8_t* next, int worker) {
      with_memory(p, worker, [&](const uint8_t* panel, uint8_t* wide, float* sums) {
        if (few_) return few(p, panel, sums);
        many(group * tiles_ / groups, (group + 1) * tiles_ / groups, p, panel, next, wide, sums);
      });
    };
    if (groups == 1)
      return cx_.parallel_stretches(panels, [&](int64_t p, int worker) {
        tile_panels(0, p, own || p + 1 == panels ? nullptr : w_.panel(p + 1), worker);
      });
    // Groups pass by each panel at about the same time, so that it comes from memory once.
    const int64_t each = std::min<int64_t>(4, std::max<int64_t>(1, panels * groups / (8 * threads)));
    const int64_t parts = ceil_div(panels, each);
    cx_.parallel_for(groups * parts, [&](int64_t task, int worker) {
      const int64_t group = task / parts, first = task % parts * each;
      for (int64_t p = first; p < std::min(panels, first + each); ++p)
        tile_panels(group, p, next_panel(p, first + each, each), worker);
    });
  }

 private:
  int64_t begin(int64_t i) const { return i * rows_ / tiles_; }
  int height(int64_t i) const { return int(begin(i + 1) - begin(i)); }
  // Rows of int8 of a tile, those that pad it included.
  int width(int64_t i) const {
    const int n = height(i) * planes_;
    if (unit_ == Unit::amx || unit_ == Unit::emulated) return most_rows(unit_);
    if (unit_ != Unit::squares) return few_ ? n : std::max(n, kLeastRows);
    int m = 2;
    while (m < n) m *= 2;
    return m;
  }
  int64_t tile_words() const { return most_rows(unit_) * (w_.in / 32) * block_words(form_, lay_); }
  int32_t* tile(int64_t i) const { return x_tiles_ + i * tile_words(); }

  void prepare(int64_t i) const {
    const int M = width(i);
    if (height(i) * planes_ < M) std::memset(tile(i), 0, M * (w_.in / 32) * block_words(form_, lay_) * 4);
    with_float(x_.dtype, [&](auto type) {
      for (int r = 0; r < height(i); ++r)
        quantise_row(x_.row<decltype(type)>(begin(i) + r), w_.in, form_, planes_, r * planes_, M, lay_, tile(i));
    });
  }

  void few(int64_t p, const uint8_t* panel, float* sums) const {
    with_blocks(w_.dtype, [&](auto type) {
      constexpr DType T = decltype(type)::value;
      constexpr int kRun = form_of(T).run();
      using Plain = std::conditional_t<kRun != 0, DotSums<kRun>, DotAny>;
      if (has_int8_dot()) return packed_tile<T, DotInstruction>(width(0), tile(0), panel, w_.in, sums);
      packed_tile<T, Plain>(width(0), tile(0), panel, w_.in, sums);
    });
    store_panel(0, p, sums);
  }

  // The panel that this thread will probably unpack after `p`: behind the last of a task, where the others have taken
  // one task each.
  const uint8_t* next_panel(int64_t p, int64_t end, int64_t each) const {
    if (w_.layout == Layout::rows) return nullptr;
    const int64_t next = p + 1 < end ? p + 1 : p + 1 + (cx_.threads() - 1) * each;
    return next < w_.panels() ? w_.panel(next) : nullptr;
  }

  // Whether so few tiles unpack q4_0 for themselves, by ports that products leave free. A prefill of Mamba-130M that
  // did took 2 % longer.
  bool keeps_nibbles([[maybe_unused]] int64_t tiles) const {
#if defined(STATESPACE_ISA_AVX512)
    return w_.dtype == DType::q4_0 && unit_ == Unit::vectors && tiles <= 8;
#else
    return false;
#endif
  }

  Multiply multiplication_of(bool unpacked, [[maybe_unused]] bool nibbles) const {
#if defined(STATESPACE_ISA_AVX512)
    if (nibbles) return by_vectors<AsNibbles>(form_);
#endif
#if defined(STATESPACE_WORDS)
    if (lay_ == Lay::words) return unpacked_tile<AsWords, DotWords>;
#endif
    if (!unpacked) return multiplication<AsBytes>(unit_, form_);
    if (form_.halves == 1)
      return form_.has_min() ? multiplication<Unpacked<1, true>>(unit_, form_)
                             : multiplication<Unpacked<1, false>>(unit_, form_);
    return form_.has_min() ? multiplication<Unpacked<2, true>>(unit_, form_)
                           : multiplication<Unpacked<2, false>>(unit_, form_);
  }

  // Tiles [begin, end) times one panel; each fetches its share of the next one.
  void many(int64_t begin, int64_t end, int64_t p, const uint8_t* panel, const uint8_t* next, uint8_t* wide,
            float* sums) const {
    const int64_t bytes = next ? panel_bytes(w_.dtype, w_.in) : 0;
    const int64_t share = ceil_div(ceil_div(bytes, 64), std::max<int64_t>(1, end - begin));  // lines
    const int64_t lines = ceil_div(share, w_.in / 32);
    const bool nibbles = keeps_nibbles(end - begin);
    const bool unpacks = lay_ != Lay::fours || (w_.dtype != DType::q8_0 && !nibbles);
    if (unpacks)
      with_blocks(w_.dtype, [&](auto type) { unpack_panel<decltype(type)::value>(panel, w_.in, lay_, wide); });
    const uint8_t* codes = unpacks ? wide : panel;
    const Multiply multiply = multiplication_of(unpacks, nibbles);
    begin_unit(unit_, 8 / form_.halves);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = std::min(bytes, (i - begin) * share * 64), to = std::min(bytes, from + share * 64);
      fetch_results(e_, y_, this->begin(i), height(i), p * kPanel, w_.out);
      multiply(width(i), tile(i), codes, w_.in, sums, {next + from, next + to, lines});
      store_panel(i, p, sums);
    }
    end_unit(unit_);
  }

  void store_panel(int64_t i, int64_t p, float* sums) const {
    const int m = height(i);
    if (planes_ > 1)
      for (int r = 0; r < m; ++r)
        for (int j = 0; j < kPanel; ++j) {
          const float* from = sums + r * planes_ * kPanel + j;
          float y = from[(planes_ - 1) * kPanel];
          for (int s = planes_ - 2; s >= 0; --s) y += from[s * kPanel];
          sums[r * kPanel + j] = y;
        }
    const int64_t o = p * kPanel;
    finish(e_, y_, begin(i), m, o, int(std::min<int64_t>(kPanel, w_.out - o)), sums, kPanel);
  }

  const Context& cx_;
  const Rows& x_;
  const int64_t rows_;
  const Matrix w_;
  const Form form_;
  const int planes_;
  const bool few_;
  const Unit unit_;
  const Lay lay_;
  const Epilogue& e_;
  const Rows& y_;
  const int64_t tiles_;
  int32_t* x_tiles_;
};

}  // namespace

int64_t quantised_scratch(int64_t in, int64_t rows) {
  int64_t most = 0;
  for (const Unit unit : {Unit::vectors, Unit::words, Unit::squares, Unit::emulated}) {
    const int64_t tiles = ceil_div(rows, int64_t(most_rows(unit) / kMostPlanes));
    most = std::max(most, tiles * most_rows(unit) * (unit == Unit::words ? 17 : 11));
  }
  return most * (in / 32) * 4;
}

void matmul_quantised(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, int planes, const Epilogue& e,
                      const Rows& y, void* scratch) {
  Product(cx, x, rows, w, planes, e, y, scratch).run();
}

void widen_panels(const Context& cx, const Matrix& w, float* to) {
  cx.parallel_for(w.panels(), [&](int64_t p, int) {
    with_blocks(w.dtype,
                [&](auto type) { widen_quantised<decltype(type)::value>(w.panel(p), w.in, to + p * w.in * kPanel); });
  });
}

}  // namespace statespace::STATESPACE_ISA
