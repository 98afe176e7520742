#pragma once
// A head's state whose columns evolve by themselves, in panels of two vectors: (rows, kPanel) one behind the other. All
// that a chunk does with a panel it does while the panel lies in the first-level cache, and its rows follow each other
// there, where rows of the whole state would fall on few of its sets.
#include <algorithm>

#include "core/context.h"
#include "kernels/head_chunk.h"
#include "kernels/head_state.h"
#include "kernels/product.h"
#include "ops/kept_states.h"

namespace statespace::STATESPACE_ISA {

constexpr int64_t kPanel = 2 * kLanes;

// Floats of a panel of `rows` rows, and of a state of n columns.
constexpr int64_t panel_floats(int64_t rows) { return whole_tiles(rows) * kPanel; }
inline int64_t panels_floats(int64_t rows, int64_t n) { return ceil_div(n, kPanel) * panel_floats(rows); }

// Columns [begin, end) of a state, of which all have panels or a piece's.
struct Columns {
  int64_t begin, end;
};

// fn.operator()<N>(column, panel) for each panel of these columns of a state of `rows`: N vectors from `column` on.
template <class Fn>
inline void each_panel(float* panel, int64_t rows, Columns columns, Fn&& fn) {
  for (int64_t column = columns.begin; column < columns.end; column += kPanel, panel += panel_floats(rows))
    if (columns.end - column > kLanes)
      fn.template operator()<2>(column, panel);
    else
      fn.template operator()<1>(column, panel);
}

// fn(place) for the tiles of m rows of a panel.
template <int N, class Fn>
inline void each_tile_of_panel(int64_t m, Fn&& fn) {
  int64_t row = 0;
  for (; row + kRows <= m; row += kRows) fn(Place<N, true>{row, 0, kRows});
  if (row < m) fn(Place<N>{row, 0, int(m - row)});
}

template <class Fn>
inline void each_panel(float* panel, int64_t rows, int64_t n, Fn&& fn) {
  each_panel(panel, rows, Columns{0, n}, fn);
}

// Columns of a dense matrix (rows, n) into panels, zeros behind the last; and back.
inline void read_panels(const float* from, int64_t rows, int64_t n, Columns columns, float* panels) {
  each_panel(panels, rows, columns, [&]<int N>(int64_t column, float* panel) {
    const int64_t count = std::min(columns.end - column, kPanel);
    for (int64_t i = 0; i < rows; ++i, panel += kPanel) {
      copy_row(from + i * n + column, panel, count);
      clear(panel + count, kPanel - count);
    }
  });
}
inline void write_panels(float* panels, int64_t rows, int64_t n, Columns columns, float* to) {
  each_panel(panels, rows, columns, [&]<int N>(int64_t column, const float* panel) {
    const int64_t count = std::min(columns.end - column, kPanel);
    for (int64_t i = 0; i < rows; ++i) copy_row(panel + i * kPanel, to + i * n + column, count);
  });
}

// The tokens and the head that a step of a chunked form is followed by.
struct Ahead {
  int64_t begin, end, head;
};

// Rows of a step's successor, brought to the second-level cache line by line between the multiply-adds of tiles: all at
// once they would wait for memory, and a head's rows lie pages apart, where no stream is recognised.
class Fetch {
 public:
  Fetch() = default;
  explicit Fetch(const Ahead& next) : next_(next) {}
  // Columns [first, first + width) of the next step's tokens.
  void add(const Tensor& t, int64_t first, int64_t width) {
    if (!t || next_.begin >= next_.end || width == 0) return;
    const char* from = reinterpret_cast<const char*>(t.row(next_.begin) + first);
    const int64_t stride = t.row_stride * int64_t(sizeof(float)), bytes = width * int64_t(sizeof(float));
    // A row that begins within a line, as those of memory that JavaScript allocated do, ends within one more.
    const int64_t into = reinterpret_cast<uintptr_t>(from) % kLine, most = stride % kLine == 0 ? into : kLine - 1;
    parts_[count_++] = {from - into, stride, ceil_div(most + bytes, kLine) * kLine, next_.end - next_.begin};
    if (count_ == 1) begin();
  }
  // And floats that lie side by side.
  void add(const float* data, int64_t n) {
    if (n <= 0) return;
    const char* from = reinterpret_cast<const char*>(data);
    const int64_t into = reinterpret_cast<uintptr_t>(from) % kLine;
    const int64_t bytes = ceil_div(into + n * int64_t(sizeof(float)), kLine) * kLine;
    parts_[count_++] = {from - into, bytes, bytes, 1};
    if (count_ == 1) begin();
  }
  // Rows follow each other here, as a call between the multiply-adds of a tile puts its sums to memory and back.
  [[gnu::always_inline]] void line() {
    prefetch(reinterpret_cast<const float*>(at_));
    at_ += step_;
    if (at_ == end_) {
      at_ += skip_, end_ += stride_;
      if (at_ == last_) [[unlikely]]
        follow();
    }
  }
  // What no tile had time for.
  void rest() {
    while (step_ > 0) line();
  }

 private:
  static constexpr int64_t kLine = 64;
  static constexpr char kNowhere = 0;
  struct Rows {
    const char* from;
    int64_t stride, bytes, count;
  };
  void begin() {
    const Rows& rows = parts_[part_];
    at_ = rows.from, end_ = at_ + rows.bytes, last_ = at_ + rows.count * rows.stride;
    step_ = kLine, stride_ = rows.stride, skip_ = rows.stride - rows.bytes;
  }
  // The next rows, or for good the last line.
  [[gnu::noinline]] void follow() {
    if (++part_ < count_) return begin();
    at_ -= stride_, step_ = 0;
  }

  Ahead next_ = {};
  Rows parts_[16];
  int count_ = 0, part_ = 0;
  const char *at_ = &kNowhere, *end_ = nullptr, *last_ = nullptr;
  int64_t step_ = 0, stride_ = 0, skip_ = 0;
};

// The rows of a tile in the next panel, brought to the first-level cache while this one's are multiplied.
[[gnu::always_inline]] inline void fetch_next_panel(const float* panel, int64_t rows, int64_t row) {
  panel += panel_floats(rows) + row * kPanel;
  for (int64_t i = 0; i < kRows * kPanel; i += 64 / int64_t(sizeof(float))) __builtin_prefetch(panel + i, 0, 3);
}

// How many neighbouring heads of n a piece takes, of which there are `times` such rows: those that let the last thread
// end soonest; more, up to `most`, where each thread still has two pieces, so that the end is shared, or where they are
// no more than `together`, which gain by it.
inline int64_t heads_of_piece(int64_t n, int64_t times, int64_t threads, int64_t most, int64_t together = 1) {
  int64_t best = 1, soonest = INT64_MAX;
  for (int64_t heads = 1; heads <= std::min(n, most); ++heads) {
    const int64_t pieces = ceil_div(n, heads) * times, end = ceil_div(pieces, threads) * heads;
    if (end < soonest || (end == soonest && (heads <= together || pieces >= 2 * threads))) best = heads, soonest = end;
  }
  return best;
}

// What one piece of a chunked form does: neighbouring heads of one sequence, chunk by chunk, as their rows of a token
// are neighbours in memory, or some columns of one head, where there are fewer heads than keep all threads busy. The
// states stay in the second-level cache.
class HeadPieces {
 public:
  HeadPieces(const Context& cx, int64_t sequences, int64_t nheads, int64_t keys, int64_t values)
      : nheads_(nheads), keys_(keys), values_(values) {
    constexpr int64_t kCached = 1 << 16;  // floats
    const int64_t whole = panels_floats(keys, values);
    heads_ = heads_of_piece(nheads, sequences, cx.threads(), kCached / std::max<int64_t>(1, whole));
    blocks_ = ceil_div(nheads, heads_);
    if (heads_ == 1) split(sequences * nheads, cx.threads());
    count = sequences * blocks_ * parts_;
  }
  int64_t sequence(int64_t i) const { return i / parts_ / blocks_; }
  int64_t head(int64_t i) const { return i / parts_ % blocks_ * heads_; }
  int64_t end_head(int64_t i) const { return std::min(head(i) + heads_, nheads_); }
  Columns columns(int64_t i) const {
    const int64_t begin = i % parts_ * width_;
    return {begin, std::min(begin + width_, values_)};
  }
  // Of the states of a piece.
  int64_t floats() const { return heads_ * size(); }

  // chunk.step(first token, tokens, head, columns, panels, next) for chunks of up to chunk.kSize of tokens [begin, end)
  // and all heads of piece i. `state`: of the sequence, (nheads, key, value); panels: floats() of them. `states`: to be
  // kept.
  template <class Chunk>
  void run(Chunk& chunk, const Context& cx, int64_t i, int64_t begin, int64_t end, float* state, float* panels,
           const Tensor& states = {}) const {
    const int64_t first = head(i), last = end_head(i);
    const Columns columns = this->columns(i);
    for (int64_t h = first; h < last; ++h)
      read_panels(state + h * keys_ * values_, keys_, values_, columns, panels + (h - first) * size());
    for (int64_t t = begin; t < end; t += chunk.kSize) {
      cx.check_stop();
      const int64_t after = std::min(t + chunk.kSize, end), then = std::min(after + chunk.kSize, end);
      for (int64_t h = first; states && kept_states::has(begin, t) && h < last; ++h)
        write_panels(panels + (h - first) * size(), keys_, values_, columns, kept_states::at(states, t, h));
      for (int64_t h = first; h < last; ++h)
        chunk.step(t, after - t, h, columns, panels + (h - first) * size(),
                   h + 1 < last ? Ahead{t, after, h + 1} : Ahead{after, then, first});
    }
    for (int64_t h = first; h < last; ++h)
      write_panels(panels + (h - first) * size(), keys_, values_, columns, state + h * keys_ * values_);
  }

  int64_t count;  // of pieces

 private:
  // Into as many parts of their columns as let the last thread end soonest. Half of the columns take 0.8 of a head's
  // time: each part reads and multiplies its tokens by itself.
  void split(int64_t heads, int64_t threads) {
    const int64_t panels = ceil_div(values_, kPanel);
    double soonest = double(ceil_div(heads, threads));
    width_ = std::max<int64_t>(1, values_);
    for (int64_t n = 2; n <= panels && heads * (n - 1) < threads * 2; ++n) {
      const int64_t width = ceil_div(panels, n) * kPanel, parts = ceil_div(values_, width);
      const double end = double(ceil_div(heads * parts, threads)) * (0.6 + 0.4 * double(width) / double(values_));
      if (end < soonest) soonest = end, width_ = width, parts_ = parts;
    }
  }
  int64_t size() const { return panels_floats(keys_, std::min(width_, values_)); }
  const int64_t nheads_, keys_, values_;
  int64_t heads_, blocks_, parts_ = 1, width_ = INT64_MAX / 2;  // width_: columns of a part
};

// Whole sequences of an op over heads with keys k and values v, each piece in a Chunk of its own; steps.operator()<N>
// (columns, worker), blocks of up to Max vectors, takes what goes token by token: all of it, or sequences too short for
// chunks.
template <class Chunk, int Max, class Op, class Steps>
void run_pieces(const Op& op, Context& cx, const Sequences& sequences, int64_t nheads, Steps&& steps) {
  const int64_t keys = op.k[2], values = op.v[2];
  if (!op.chunked()) return each_head_columns<Max>(cx, sequences.count, nheads, values, steps);
  const HeadPieces pieces(cx, sequences.count, nheads, keys, values);
  cx.parallel_for(pieces.count, [&](int64_t i, int worker) {
    const int64_t s = pieces.sequence(i), begin = sequences.begin(s), end = sequences.end(s);
    if (end - begin < kShort) {
      for (int64_t h = pieces.head(i); h < pieces.end_head(i) && pieces.columns(i).begin == 0; ++h)
        each_block_of_head<Max>(s, h, values,
                                [&]<int N>(const HeadColumns& c) { steps.template operator()<N>(c, worker); });
      return;
    }
    float* panels = cx.local<float>(worker, pieces.floats() + Chunk::scratch(op));
    Chunk chunk(op, panels + pieces.floats());
    pieces.run(chunk, cx, i, begin, end, op.state.row(sequences.slot(s)), panels, op.keeps() ? op.states : Tensor());
  });
}

}  // namespace statespace::STATESPACE_ISA
