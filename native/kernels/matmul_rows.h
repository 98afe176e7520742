#pragma once
// Weights in rows by fewer rows of x than a packing pays for: dot products, as both lie. A weight is read once, from
// end to end; what four of its rows need of x passes by meanwhile.
#include "kernels/matmul_finish.h"
#include "kernels/sequences.h"
#include "kernels/weights.h"

namespace statespace::STATESPACE_ISA {
namespace {  // so that what common templates make of its loops is no symbol of theirs

constexpr int kRowGroup = 4;  // rows of the weight at once, by so many of x: as many sums as there are registers
#if defined(STATESPACE_ISA_AVX512) || defined(STATESPACE_ISA_NEON)
constexpr int kRowTile = 4;
#elif defined(STATESPACE_ISA_AVX2)
constexpr int kRowTile = 3;
#else
constexpr int kRowTile = 2;
#endif

// How a step reads rows: kStep values of the weight, and those of x as `put` has laid them out.
template <class T>
struct WidenedRows {
  using Value = T;
  static constexpr int kStep = kLanes, kXBytes = 4;
  template <class X>
  static void put(const X* x, int n, void* to) {
    store(static_cast<float*>(to), n < kLanes ? load(x, n) : load(x));
  }
  struct Step {
    F v;
    explicit Step(const T* w) : v(load(w)) {}
    F add(F sum, const char* x) const { return fma(v, load(reinterpret_cast<const float*>(x)), sum); }
  };
};

// Both halves of a pair, each with its half of x: two instructions for what else takes four.
template <>
struct WidenedRows<bf16_t> {
  using Value = bf16_t;
  static constexpr int kStep = 2 * kLanes, kXBytes = 4;
  template <class X>
  static void put(const X* x, int n, void* to) {
    float* halves = static_cast<float*>(to);
    for (int i = 0; i < kStep; ++i) halves[i % 2 * kLanes + i / 2] = i < n ? to_float(x[i]) : 0;
  }
  struct Step {
    F even, odd;
    explicit Step(const bf16_t* w) { load_pairs(w, even, odd); }
    F add(F sum, const char* x) const {
      const auto* halves = reinterpret_cast<const float*>(x);
      return fma(odd, load(halves + kLanes), fma(even, load(halves), sum));
    }
  };
};

#if defined(STATESPACE_BF16_DOT)
// x rounded to bf16.
struct PairedRows {
  using Value = bf16_t;
  static constexpr int kStep = 2 * kLanes, kXBytes = 2;
  template <class X>
  static void put(const X* x, int n, void* to) {
    const auto part = [&](int at) { return n - at >= kLanes ? load(x + at) : n > at ? load(x + at, n - at) : zero(); };
    store(static_cast<float*>(to), bf16_pairs(part(0), part(kLanes)));
  }
  struct Step {
    Pairs v;
    explicit Step(const bf16_t* w) : v(load_pairs(w)) {}
    STATESPACE_BF16_DOT F add(F sum, const char* x) const { return dot_pairs(sum, v, load_pairs(x)); }
  };
};
#endif

// What is read soon: `count` rows a stride apart.
struct RowsAhead {
  const char* first = nullptr;
  int64_t stride = 0;
  int count = 0;
};

// out (M, out_stride) = M rows of x, laid out, x_stride bytes apart, by kRowGroup rows of the weight.
template <class R, int M>
[[gnu::always_inline]] inline void row_group(const typename R::Value* const (&w)[kRowGroup], const char* x,
                                             int64_t x_stride, int64_t in, RowsAhead ahead, float* out,
                                             int64_t out_stride) {
  using T = typename R::Value;
  constexpr int kSums = (kRowGroup * M + kLanes - 1) / kLanes * kLanes;
  F acc[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; ++i) acc[i] = zero();
  const auto step = [&](const T* const(&rows)[kRowGroup], int64_t k) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int o = 0; o < kRowGroup; ++o) {
      const typename R::Step b(rows[o] + k);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) acc[m * kRowGroup + o] = b.add(acc[m * kRowGroup + o], x + m * x_stride);
    }
  };
  int64_t k = 0;
  for (; k + R::kStep <= in; k += R::kStep, x += R::kStep * R::kXBytes) {
    for (int i = 0; i < ahead.count; ++i) prefetch(ahead.first + i * ahead.stride + k * int64_t(sizeof(T)));
    step(w, k);
  }
  if (k < in) {
    T rest[kRowGroup][R::kStep] = {};
    for (int o = 0; o < kRowGroup; ++o) std::memcpy(rest[o], w[o] + k, (in - k) * sizeof(T));
    const T* const rows[kRowGroup] = {rest[0], rest[1], rest[2], rest[3]};
    step(rows, 0);
  }
  alignas(64) float totals[kSums];
#pragma GCC unroll 16
  for (int i = 0; i < kSums; i += kLanes) {
    F part[kLanes];
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) part[j] = acc[i + j];
    store(totals + i, sums(part));
  }
  for (int m = 0; m < M; ++m) std::memcpy(out + m * out_stride, totals + m * kRowGroup, kRowGroup * sizeof(float));
}

template <class R, int M>
struct RowGroup {
  static void run(const typename R::Value* const (&w)[kRowGroup], const char* x, int64_t x_stride, int64_t in,
                  RowsAhead ahead, float* out, int64_t out_stride) {
    row_group<R, M>(w, x, x_stride, in, ahead, out, out_stride);
  }
};
#if defined(STATESPACE_BF16_DOT)
template <int M>
struct RowGroup<PairedRows, M> {
  STATESPACE_BF16_DOT static void run(const bf16_t* const (&w)[kRowGroup], const char* x, int64_t x_stride, int64_t in,
                                      RowsAhead ahead, float* out, int64_t out_stride) {
    row_group<PairedRows, M>(w, x, x_stride, in, ahead, out, out_stride);
  }
};
#endif

template <class R, int M = kRowTile>
void multiply_row_group(int rows, const typename R::Value* const (&w)[kRowGroup], const char* x, int64_t x_stride,
                        int64_t in, RowsAhead ahead, float* out, int64_t out_stride) {
  if (rows == M) return RowGroup<R, M>::run(w, x, x_stride, in, ahead, out, out_stride);
  if constexpr (M > 1) multiply_row_group<R, M - 1>(rows, w, x, x_stride, in, ahead, out, out_stride);
}

// Floats of x, laid out.
inline int64_t rows_scratch(int64_t in, int64_t rows) { return rows * ceil_div(in, 2 * kLanes) * 2 * kLanes; }

template <class R>
void multiply_by_rows(const Context& cx, const Rows& x, int64_t rows, const Matrix& w, const Epilogue& e, const Rows& y,
                      char* laid_out) {
  using T = typename R::Value;
  constexpr int64_t kOutputs = 64;  // a piece
  const int64_t x_stride = ceil_div(w.in, R::kStep) * R::kStep * R::kXBytes;
  const auto lay_out = [&](int64_t m) {
    with_float(x.dtype, [&](auto type) {
      const auto* row = x.row<decltype(type)>(m);
      char* to = laid_out + m * x_stride;
      for (int64_t k = 0; k < w.in; k += R::kStep, to += R::kStep * R::kXBytes)
        R::put(row + k, w.in - k < R::kStep ? int(w.in - k) : R::kStep, to);
    });
  };
  if (rows <= kRowTile)
    for (int64_t m = 0; m < rows; ++m) lay_out(m);
  else
    cx.parallel_for(rows, [&](int64_t m, int) { lay_out(m); });

  const int64_t tiles = ceil_div(rows, kRowTile);
  // The next group is fetched while this one is multiplied; of long rows the part that comes next.
  const int64_t row_bytes = w.row_stride * int64_t(sizeof(T)),
                far = w.in * int64_t(sizeof(T)) < 8192 ? kRowGroup * row_bytes : 4096;
  const int each = tiles == 1 ? 4 : tiles < 4 ? 2 : 1;
  cx.parallel_stretches(ceil_div(w.out, kOutputs), [&](int64_t task, int worker) {
    float* sums = cx.local<float>(worker, rows * kOutputs + kLanes);
    const int64_t first = task * kOutputs, end = first + kOutputs < w.out ? first + kOutputs : w.out;
    for (int64_t o = first; o < end; o += kRowGroup) {
      const T* group[kRowGroup];
      for (int64_t i = 0; i < kRowGroup; ++i)
        group[i] = reinterpret_cast<const T*>(w.data) + (o + i < end ? o + i : o) * w.row_stride;
      for (int64_t t = 0; t < tiles; ++t) {
        const int64_t begin = t * rows / tiles;
        RowsAhead ahead{reinterpret_cast<const char*>(group[0]) + far + t * each * row_bytes, row_bytes, each};
        if (t * each >= kRowGroup) ahead.count = 0;
        multiply_row_group<R>(int((t + 1) * rows / tiles - begin), group, laid_out + begin * x_stride, x_stride, w.in,
                              ahead, sums + begin * kOutputs + (o - first), kOutputs);
      }
    }
    finish(e, y, 0, int(rows), first, int(end - first), sums, kOutputs);
  });
}

// round: x to bf16, where the weight is and the machine multiplies pairs.
inline void multiply_by_rows(const Context& cx, const Rows& x, int64_t rows, const Matrix& w,
                             [[maybe_unused]] bool round, const Epilogue& e, const Rows& y, void* scratch) {
  char* laid_out = static_cast<char*>(scratch);
#if defined(STATESPACE_BF16_DOT)
  if (round && has_bf16_dot()) return multiply_by_rows<PairedRows>(cx, x, rows, w, e, y, laid_out);
#endif
  with_float(w.dtype,
             [&](auto type) { multiply_by_rows<WidenedRows<decltype(type)>>(cx, x, rows, w, e, y, laid_out); });
}

}  // namespace
}  // namespace statespace::STATESPACE_ISA
