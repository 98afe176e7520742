#pragma once
// Gradients of the recurrences whose state is a matrix a head, token by token and backwards in time: the states of a
// chunk of tokens are computed again from the one that was kept at its start, so that memory grows with 1/kChunk of all
// states. What an op has of its own are two steps over (rows, cols) matrices.
#include <algorithm>
#include <cstring>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

constexpr int64_t kChunk = 16;

inline int64_t whole_vectors(int64_t n) { return ceil_div(n, kLanes) * kLanes; }

// A vector of n floats with whole vectors of room, zeros behind it.
inline void load_padded(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kLanes) store(to + i, load(from + i, lanes_of(n - i)));
}
inline void store_padded(const float* from, int64_t n, float* to) {
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = lanes_of(n - i);
    store(to + i, load(from + i), m);
  }
}

// A row's vectors: in registers where their number N is known when the kernel is compiled, else (N = 0) in `memory`.
template <int N>
class RowVectors {
 public:
  RowVectors(float*, int64_t) {}
  static constexpr int count() { return N; }
  F get(int c) const { return v_[c]; }
  void set(int c, F x) { v_[c] = x; }

 private:
  F v_[N];
};
template <>
class RowVectors<0> {
 public:
  RowVectors(float* memory, int64_t width) : memory_(memory), count_(int(width / kLanes)) {}
  int count() const { return count_; }
  F get(int c) const { return load(memory_ + c * kLanes); }
  void set(int c, F x) { store(memory_ + c * kLanes, x); }

 private:
  float* memory_;
  int count_;
};

// Rows of N vectors, N = 0: of any number. Every loop over a row's vectors is one of these.
template <int N>
struct RowLoop {
  int64_t width;
  template <class Fn>
  [[gnu::always_inline]] void each(Fn&& fn) const {
    if constexpr (N > 0) {
#pragma GCC unroll 8
      for (int c = 0; c < N; ++c) fn(c);
    } else {
      for (int c = 0; c < int(width / kLanes); ++c) fn(c);
    }
  }
  // Σ_c fn(c), of all lanes.
  template <class Fn>
  [[gnu::always_inline]] float sum_of(Fn&& fn) const {
    F total = zero();
    each([&](int c) { total = fn(c, total); });
    return sum(total);
  }
  [[gnu::always_inline]] RowVectors<N> read(const float* from, float* memory) const {
    RowVectors<N> v(memory, width);
    each([&](int c) { v.set(c, load(from + c * kLanes)); });
    return v;
  }
  [[gnu::always_inline]] RowVectors<N> zeros(float* memory) const {
    RowVectors<N> v(memory, width);
    each([&](int c) { v.set(c, zero()); });
    return v;
  }
  [[gnu::always_inline]] void write(const RowVectors<N>& v, float* to) const {
    each([&](int c) { store(to + c * kLanes, v.get(c)); });
  }
};

// fn(RowLoop<N>) for rows of `width` floats.
template <class Fn>
void with_row_loop(int64_t width, Fn&& fn) {
  if (width == 4 * kLanes) return fn(RowLoop<4>{width});
  if (width == 8 * kLanes) return fn(RowLoop<8>{width});
  fn(RowLoop<0>{width});
}

// Sizes of one head's state, and where its matrices lie: rows of `width` floats.
struct HeadShape {
  int64_t rows, cols, width;
  HeadShape(int64_t rows, int64_t cols) : rows(rows), cols(cols), width(whole_vectors(cols)) {}
  int64_t size() const { return rows * width; }
  void read(const float* from, float* to) const {
    for (int64_t i = 0; i < rows; ++i) load_padded(from + i * cols, cols, to + i * width);
  }
  void write(const float* from, float* to) const {
    for (int64_t i = 0; i < rows; ++i) store_padded(from + i * width, cols, to + i * cols);
  }
};

// What all of them have: packed sequences, and states (sequences, nheads, rows, cols), absent ones zero.
struct HeadStates {
  const Tensor& cu_seqlens;
  int64_t tokens, nheads;
  const Tensor &initial, &last, &dinitial;
};

// forward(sequence, head, token, const S, next S, worker) and backward(sequence, head, token, S before, S behind, G,
// worker) for each token of each head; backward leaves in G the gradient of the state before the token. `extra` floats
// of a worker's scratch are the op's, passed as `own`.
template <class Forward, class Backward>
void each_head_backwards(Context& cx, const HeadStates& states, HeadShape shape, int64_t extra, Forward&& forward,
                         Backward&& backward) {
  const Sequences sequences(states.cu_seqlens, Tensor(), states.tokens);
  const int64_t size = shape.size(), one = shape.rows * shape.cols;
  cx.parallel_for(sequences.count * states.nheads, [&](int64_t i, int worker) {
    const int64_t s = i / states.nheads, h = i % states.nheads, begin = sequences.begin(s), end = sequences.end(s);
    const int64_t chunks = ceil_div(end - begin, kChunk);
    float* own = cx.local<float>(worker, whole_vectors(extra) + (chunks + kChunk + 2) * size);
    float* kept = own + whole_vectors(extra);    // states at the chunks' starts
    float* inside = kept + (chunks + 1) * size;  // of one chunk, behind each of its tokens
    float* G = inside + kChunk * size;
    auto at = [&](const Tensor& t) { return t.row(s) + h * one; };
    for (float* first : {kept, G}) std::memset(first, 0, size * sizeof(float));
    if (states.initial) shape.read(at(states.initial), kept);
    if (states.last) shape.read(at(states.last), G);
    for (int64_t c = 0; c + 1 < chunks; ++c) {
      cx.check_stop();
      const float* from = kept + c * size;
      for (int64_t t = begin + c * kChunk; t < begin + (c + 1) * kChunk; ++t) {
        float* to = t + 1 == begin + (c + 1) * kChunk ? kept + (c + 1) * size : inside + (t % 2) * size;
        forward(s, h, t, from, to, own);
        from = to;
      }
    }
    for (int64_t c = chunks - 1; c >= 0; --c) {
      cx.check_stop();
      const int64_t first = begin + c * kChunk, count = std::min(kChunk, end - first);
      auto before = [&](int64_t j) { return j ? inside + (j - 1) * size : kept + c * size; };
      for (int64_t j = 0; j < count; ++j) forward(s, h, first + j, before(j), inside + j * size, own);
      for (int64_t j = count - 1; j >= 0; --j) backward(s, h, first + j, before(j), inside + j * size, G, own);
    }
    if (states.dinitial) shape.write(G, at(states.dinitial));
  });
}

// to (tokens, groups, n) = from (tokens, nheads, n), summed over the heads of each group.
inline void sum_heads(Context& cx, const float* from, int64_t tokens, int64_t nheads, int64_t groups, int64_t n,
                      const Tensor& to) {
  const int64_t each = nheads / groups;
  for_row_blocks(cx, tokens, nheads * n, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t c = 0; c < n; c += kLanes) {
          const int m = lanes_of(n - c);
          F total = zero();
          for (int64_t h = g * each; h < (g + 1) * each; ++h) total = total + load(from + (t * nheads + h) * n + c, m);
          store(to.row(t) + g * n + c, total, m);
        }
  });
}

}  // namespace statespace::STATESPACE_ISA
