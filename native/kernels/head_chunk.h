#pragma once
// What the chunked forms of the head recurrences share. Decays inside a chunk are running products of e^w ≤ 1, so that
// nothing overflows and no difference of large sums is taken, however strong the decay.
#include "core/context.h"
#include "core/tensor.h"
#include "isa/simd.h"
#include "kernels/prefetch_bytes.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

// Hears of an abort before each: a head of a long sequence is one piece of a loop.
template <class Fn>
inline void each_chunk(const Context& cx, const Sequences& sequences, int64_t s, int64_t size, Fn&& fn) {
  const int64_t end = sequences.end(s);
  for (int64_t t = sequences.begin(s); t < end; t += size) {
    cx.check_stop();
    fn(t, end - t < size ? end - t : size);
  }
}

inline void clear(float* p, int64_t n) {
  if (n > 0) std::memset(p, 0, size_t(n) * sizeof(float));
}

inline void copy_row(const float* from, float* to, int64_t n) { std::memcpy(to, from, size_t(n) * sizeof(float)); }

// The first n lanes, all if n = kLanes.
inline F load_some(const float* p, int n) { return n < kLanes ? load(p, n) : load(p); }

// out = a ∘ b; b and out have room for whole vectors, a need not.
inline void scale_row(const float* a, const float* b, float* out, int64_t n) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, load(a + i) * load(b + i));
  if (i < n) store(out + i, load(a + i, int(n - i)) * load(b + i, int(n - i)));
}

// p *= factor, n a multiple of kLanes.
inline void scale(float* p, float factor, int64_t n) {
  for (int64_t i = 0; i < n; i += kLanes) store(p + i, load(p + i) * set(factor));
}

// Columns [first, first + width) of n tokens into rows of `stride`, zeros behind; and back.
inline void copy_rows(const Tensor& from, int64_t begin, int64_t n, int64_t first, int64_t width, float* to,
                      int64_t stride) {
  for (int64_t t = 0; t < n; ++t) {
    copy_row(from.row(begin + t) + first, to + t * stride, width);
    clear(to + t * stride + width, stride - width);
  }
}
inline void write_rows(const float* from, int64_t stride, const Tensor& to, int64_t begin, int64_t n, int64_t first,
                       int64_t width) {
  for (int64_t t = 0; t < n; ++t) copy_row(from + t * stride, to.row(begin + t) + first, width);
}

// Rows (n, width) of tokens into columns (width, stride), n ≤ stride, zeros behind; stride a multiple of kLanes.
inline void copy_transposed(const Tensor& from, int64_t begin, int64_t n, int64_t first, int64_t width, float* to,
                            int64_t stride) {
  for (int64_t t = 0; t < stride; t += kLanes)
    for (int64_t i = 0; i < width; i += kLanes) {
      const int columns = width - i < kLanes ? int(width - i) : kLanes;
      F square[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r)
        square[r] = t + r < n ? load_some(from.row(begin + t + r) + first + i, columns) : zero();
      transpose(square);
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; ++r)
        if (r < columns) store(to + (i + r) * stride + t, square[r]);
    }
}

// Brings the same columns of n tokens to the second-level cache, those that are read next or written: a head's rows lie
// pages apart, where no stream is recognised.
inline void fetch_rows(const Tensor& t, int64_t begin, int64_t n, int64_t first, int64_t width) {
  if (!t) return;
  for (int64_t i = begin; i < begin + n; ++i) prefetch_bytes(t.row(i) + first, width * int64_t(sizeof(float)));
}

// A dense matrix into rows of `stride`, zeros behind; and back.
inline void read_rows(const float* from, int64_t rows, int64_t width, float* to, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    copy_row(from + i * width, to + i * stride, width);
    clear(to + i * stride + width, stride - width);
  }
}
inline void write_rows(const float* from, int64_t stride, int64_t rows, int64_t width, float* to) {
  for (int64_t i = 0; i < rows; ++i) copy_row(from + i * stride, to + i * width, width);
}

}  // namespace statespace::STATESPACE_ISA
