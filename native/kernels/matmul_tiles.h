#pragma once
// Products of bf16 on a matrix unit of tiles. x is rounded to bf16 and laid out as the unit reads it; a packed panel of
// weights is read as it lies: 16 pairs of inputs by 32 outputs are two tiles side by side.
#include "isa/amx.h"
#include "kernels/matmul_finish.h"
#include "kernels/sequences.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {

#if defined(STATESPACE_TILES)

// Fewer rows fill too little of a tile; the vector unit multiplies those at the speed of memory.
constexpr int64_t kLeastTileRows = 8;

inline int64_t tile_steps(int64_t in) { return ceil_div(in, kTileDepth); }
inline int64_t tile_scratch(int64_t in, int64_t rows) {
  return ceil_div(rows, 2 * kTileSide) * 2 * tile_steps(in) * kTileSide * kTileBytes;
}

// out (R · 16, 32) = x (R, steps, 16, 32) times a panel (steps, 16, 32, 2). `tail` is the panel's last step, filled up
// with zeros.
template <class Unit, int R>
void multiply_tiles(const uint8_t* x, const uint8_t* panel, const uint8_t* tail, int64_t steps, float* out) {
  constexpr int64_t kPanelRow = 4 * kPanel, kBlock = kTileSide * kTileBytes;
  Unit::template zero<0>();
  Unit::template zero<1>();
  if constexpr (R == 2) Unit::template zero<2>(), Unit::template zero<3>();
  for (int64_t s = 0; s < steps; ++s) {
    const uint8_t* w = s == steps - 1 ? tail : panel + s * kTileSide * kPanelRow;
    Unit::template load<6>(w, kPanelRow);
    Unit::template load<7>(w + kTileBytes, kPanelRow);
    Unit::template load<4>(x + s * kBlock, kTileBytes);
    Unit::template dot<0, 4, 6>();
    Unit::template dot<1, 4, 7>();
    if constexpr (R == 2) {
      Unit::template load<5>(x + (steps + s) * kBlock, kTileBytes);
      Unit::template dot<2, 5, 6>();
      Unit::template dot<3, 5, 7>();
    }
  }
  Unit::template store<0>(out, kPanelRow);
  Unit::template store<1>(out + kTileSide, kPanelRow);
  if constexpr (R == 2) {
    Unit::template store<2>(out + kTileSide * kPanel, kPanelRow);
    Unit::template store<3>(out + kTileSide * kPanel + kTileSide, kPanelRow);
  }
}

namespace {  // so that what common templates make of its loops is no symbol of theirs

template <class Unit>
class TileProduct {
 public:
  TileProduct(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, const Epilogue& e, const Rows& y,
              void* scratch)
      : cx_(cx),
        x_(x),
        rows_(rows),
        w_(w),
        e_(e),
        y_(y),
        steps_(tile_steps(w.in)),
        blocks_(ceil_div(rows, kBlockRows)),
        x_blocks_(static_cast<uint8_t*>(scratch)) {}

  void run() {
    cx_.parallel_for(blocks_, [&](int64_t i, int) { prepare(i); });
    const int64_t fit = std::max<int64_t>(1, kResident / block_bytes());
    const int64_t groups = w_.layout == Layout::packed ? ceil_div(blocks_, fit) : 1;
    const int64_t panels = w_.panels();
    const int64_t each = std::min<int64_t>(4, std::max<int64_t>(1, panels * groups / (8 * cx_.threads())));
    const int64_t parts = ceil_div(panels, each);
    const int64_t own = w_.layout == Layout::rows ? panel_bytes(w_.dtype, w_.in) : 0;
    cx_.parallel_for(groups * parts, [&](int64_t task, int worker) {
      float* sums = cx_.local<float>(worker, kBlockRows * kPanel + kTailBytes / 4 + own / 4);
      uint8_t* tail = reinterpret_cast<uint8_t*>(sums + kBlockRows * kPanel);
      const int64_t group = task / parts, first = task % parts * each;
      Unit::begin();
      for (int64_t p = first; p < std::min(panels, first + each); ++p) {
        const uint8_t* panel = w_.layout == Layout::packed ? w_.panel(p) : tail + kTailBytes;
        if (w_.layout == Layout::rows) pack_panel(w_, p, tail + kTailBytes);
        last_step(panel, tail);
        for (int64_t i = group * blocks_ / groups; i < (group + 1) * blocks_ / groups; ++i) {
          const int64_t row = i * kBlockRows, m = std::min(kBlockRows, rows_ - row);
          const uint8_t* x = x_blocks_ + i * block_bytes();
          m > kTileSide ? multiply_tiles<Unit, 2>(x, panel, tail, steps_, sums)
                        : multiply_tiles<Unit, 1>(x, panel, tail, steps_, sums);
          const int64_t o = p * kPanel;
          finish(e_, y_, row, int(m), o, int(std::min<int64_t>(kPanel, w_.out - o)), sums, kPanel);
        }
      }
      Unit::end();
    });
  }

 private:
  static constexpr int64_t kBlockRows = 2 * kTileSide, kTailBytes = kTileSide * 4 * kPanel, kResident = 640 << 10;

  int64_t block_bytes() const { return 2 * steps_ * kTileSide * kTileBytes; }

  // Rows [32 i, 32 i + 32) as (2, steps, 16, 32) of bf16, zeros where there are none.
  void prepare(int64_t i) const {
    with_float(x_.dtype, [&](auto type) {
      using T = decltype(type);
      for (int64_t r = 0; r < kBlockRows; ++r) {
        uint8_t* to = x_blocks_ + i * block_bytes() + (r / kTileSide * steps_ * kTileSide + r % kTileSide) * kTileBytes;
        const int64_t row = i * kBlockRows + r;
        const T* from = row < rows_ ? x_.row<T>(row) : nullptr;
        for (int64_t k = 0; k < steps_ * kTileDepth; k += kTileDepth, to += kTileSide * kTileBytes) {
          auto part = [&](int64_t at) {
            const int64_t n = from ? w_.in - at : 0;
            return n >= kLanes ? load(from + at) : n > 0 ? load(from + at, int(n)) : zero();
          };
          store(reinterpret_cast<float*>(to), bf16_pairs(part(k), part(k + kLanes)));
        }
      }
    });
  }

  void last_step(const uint8_t* panel, uint8_t* tail) const {
    const int64_t begin = (steps_ - 1) * kTailBytes, bytes = panel_bytes(w_.dtype, w_.in) - begin;
    std::memcpy(tail, panel + begin, bytes);
    std::memset(tail + bytes, 0, kTailBytes - bytes);
  }

  const Context& cx_;
  const Rows& x_;
  const int64_t rows_;
  const Matrix w_;
  const Epilogue& e_;
  const Rows& y_;
  const int64_t steps_, blocks_;
  uint8_t* x_blocks_;
};

}  // namespace

#endif

}  // namespace statespace::STATESPACE_ISA
