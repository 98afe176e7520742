#pragma once
// The products of a linear layer's gradient for few rows: the weight, or its gradient, is all that there is to move,
// and it passes once, where it lies. Packed into panels it passed three times.
#include "isa/stream.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {  // so that what common templates make of its loops is no symbol of theirs

// Rows up to which each is multiplied beside the others for every vector of the weight.
constexpr int64_t kFewGradientRows = 16;
// Matrices from so many bytes on are written past the caches.
constexpr int64_t kStreamedBytes = 1 << 20;
// Rows of the weight that are multiplied at once, or of its gradient that are written at once.
constexpr int64_t kFewAtOnce = 8;
// Stretches of the weight, each with sums of its own.
constexpr int64_t kFewParts = 16;

// Floats of the sums that dx of few rows needs.
inline int64_t few_floats(int64_t in) { return kFewParts * kFewGradientRows * ceil_div(in, 16) * 16; }

// sums (rows, stride) += dy (rows, out) · w (out, in) over rows [first, first + Count) of w.
template <int Count, class T>
inline void add_rows_of_weight(const Rows& dy, int64_t rows, const Rows& w, int64_t first, int64_t last, int64_t in,
                               float* sums, int64_t stride) {
  const float* factors[kFewGradientRows];
  for (int64_t r = 0; r < rows; ++r) factors[r] = dy.row<float>(r) + first;
  const T* from[Count];
  for (int i = 0; i < Count; ++i) from[i] = w.row<T>(first + i);
  const int64_t ahead = first + 2 * Count <= last ? Count * w.stride : 0;  // what the next call reads
  const auto columns = [&](int64_t c, auto... n) {
    F v[Count];
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) {
      prefetch(from[i] + ahead + c);
      v[i] = load(from[i] + c, n...);
    }
    for (int64_t r = 0; r < rows; ++r) {
      F total = load(sums + r * stride + c);
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) total = fma(set(factors[r][i]), v[i], total);
      store(sums + r * stride + c, total);
    }
  };
  int64_t c = 0;
  for (; c + kLanes <= in; c += kLanes) columns(c);
  if (c < in) columns(c, int(in - c));
}

// dx (rows, in), or with `add` more of it, = dy (rows, out) · w (out, in). sums: few_floats(in).
template <class T>
void few_dx(const Context& cx, const Rows& dy, int64_t rows, const Rows& w, int64_t out, int64_t in, const Rows& dx,
            bool add, float* sums) {
  const int64_t stride = ceil_div(in, 16) * 16, parts = std::clamp<int64_t>(out / 64, 1, kFewParts);
  cx.parallel_stretches(parts, [&](int64_t part, int) {
    float* own = sums + part * rows * stride;
    std::memset(own, 0, rows * stride * sizeof(float));
    const int64_t end = (part + 1) * out / parts;
    int64_t k = part * out / parts;
    for (; k + kFewAtOnce <= end; k += kFewAtOnce)
      add_rows_of_weight<kFewAtOnce, T>(dy, rows, w, k, end, in, own, stride);
    for (; k < end; ++k) add_rows_of_weight<1, T>(dy, rows, w, k, end, in, own, stride);
  });
  constexpr int64_t kColumns = 256;
  cx.parallel_for(ceil_div(in, kColumns), [&](int64_t block, int) {
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = block * kColumns; c < std::min(in, (block + 1) * kColumns); c += kLanes) {
        const int n = lanes_of(in - c);
        F total = load(sums + r * stride + c);
        for (int64_t part = 1; part < parts; ++part) total = total + load(sums + (part * rows + r) * stride + c);
        float* to = dx.row<float>(r) + c;
        store(to, add ? load(to, n) + total : total, n);
      }
  });
}

// Rows [first, first + Count) of dweight = dyᵀ (out, rows) · x (rows, in).
template <int Count, class T>
inline void write_rows_of_gradient(const Rows& dy, const Rows& x, int64_t rows, int64_t first, int64_t in, float* to,
                                   int64_t stride, bool add, bool streamed) {
  const float* factors[kFewGradientRows];
  const T* from[kFewGradientRows];
  for (int64_t r = 0; r < rows; ++r) factors[r] = dy.row<float>(r) + first, from[r] = x.row<T>(r);
  const auto columns = [&](int64_t c, auto put, auto... n) {
    F total[Count];
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) total[i] = add ? load(to + i * stride + c, n...) : zero();
    for (int64_t r = 0; r < rows; ++r) {
      const F v = load(from[r] + c, n...);
#pragma GCC unroll 8
      for (int i = 0; i < Count; ++i) total[i] = fma(set(factors[r][i]), v, total[i]);
    }
#pragma GCC unroll 8
    for (int i = 0; i < Count; ++i) put(to + i * stride + c, total[i]);
  };
  int64_t c = 0;
  if (streamed)
    for (; c + kLanes <= in; c += kLanes) columns(c, [](float* p, F v) { stream(p, v); });
  for (; c + kLanes <= in; c += kLanes) columns(c, [](float* p, F v) { store(p, v); });
  if (const int n = int(in - c); n > 0)
    columns(
        c, [&](float* p, F v) { store(p, v, n); }, n);
}

// dweight (out, in), or with `add` more of it; zeros of no rows.
template <class T>
void few_dweight(const Context& cx, const Rows& dy, const Rows& x, int64_t rows, int64_t out, int64_t in,
                 float* dweight, int64_t stride, bool add) {
  constexpr int64_t kRowsATask = 32;
  const bool streamed = !add && out * in * int64_t(sizeof(float)) >= kStreamedBytes && streams(dweight, stride);
  cx.parallel_stretches(ceil_div(out, kRowsATask), [&](int64_t task, int) {
    const int64_t end = std::min(out, (task + 1) * kRowsATask);
    int64_t o = task * kRowsATask;
    for (; o + kFewAtOnce <= end; o += kFewAtOnce)
      write_rows_of_gradient<kFewAtOnce, T>(dy, x, rows, o, in, dweight + o * stride, stride, add, streamed);
    for (; o < end; ++o) write_rows_of_gradient<1, T>(dy, x, rows, o, in, dweight + o * stride, stride, add, streamed);
    if (streamed) end_streams();
  });
}

}  // namespace
}  // namespace statespace::STATESPACE_ISA
