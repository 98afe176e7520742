#pragma once
// What the gradients share: sums over a warp, derivatives of the activations, sums over rows, and products of rows.
#include "elementary.h"
#include "views.h"

namespace statespace::cuda {

__device__ inline float warp_sum(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}
__device__ inline float warp_max(float v) {
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) v = fmaxf(v, shuffle_xor(v, mask));
  return v;
}

__device__ inline float silu_gradient(float x) {
  const float s = sigmoid(x);
  return s * (1 + x * (1 - s));
}
__device__ inline float softplus_gradient(float x) { return x > 20 ? 1 : sigmoid(x); }

__device__ inline float activation_gradient(Activation which, float x) {
  switch (which) {
    case Activation::none:
      return 1;
    case Activation::silu:
      return silu_gradient(x);
    case Activation::gelu:
      return 0.5f * (1 + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
    case Activation::gelu_tanh: {
      const float t = tanhf(0.79788456f * (x + 0.044715f * x * x * x));
      return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * 0.79788456f * (1 + 3 * 0.044715f * x * x);
    }
    case Activation::sigmoid: {
      const float s = sigmoid(x);
      return s * (1 - s);
    }
    case Activation::tanh: {
      const float t = tanhf(x);
      return 1 - t * t;
    }
    case Activation::relu:
      return x > 0 ? 1 : 0;
    case Activation::relu2:
      return 2 * fmaxf(x, 0);
    case Activation::exp:
      return expf(x);
    case Activation::softplus:
      return softplus_gradient(x);
  }
  return 1;
}

// to[c / width][c % width] = Σ_r fn(r, c), or as much more: rows in parts that depend on their number alone, then the
// parts in order.
template <class Fn>
struct ColumnSumArgs {
  Fn fn;
  int64_t rows, columns, each, parts;
  global<float> partial;  // (parts, columns)
  Rows<float> to;
  int64_t width;
  bool add;
};

constexpr int kColumnThreads = 128;

template <class Fn>
__global__ void __launch_bounds__(kColumnThreads) sum_part(ColumnSumArgs<Fn> a) {
  const int64_t c = int64_t(blockIdx.x) * kColumnThreads + threadIdx.x, part = blockIdx.y;
  if (c >= a.columns) return;
  float total = 0;
  for (int64_t r = part * a.each; r < smaller(a.rows, (part + 1) * a.each); ++r) total += a.fn(r, c);
  a.partial[part * a.columns + c] = total;
}

template <class Fn>
__global__ void __launch_bounds__(kColumnThreads) join_parts(ColumnSumArgs<Fn> a) {
  const int64_t c = int64_t(blockIdx.x) * kColumnThreads + threadIdx.x;
  if (c >= a.columns) return;
  float total = 0;
  for (int64_t part = 0; part < a.parts; ++part) total += a.partial[part * a.columns + c];
  const global<float> to = a.to[c / a.width] + c % a.width;
  *to = a.add ? *to + total : total;
}

template <class Fn>
void sum_columns(const Fn& fn, int64_t rows, int64_t columns, const Rows<float>& to, int64_t width, bool add = false) {
  if (columns == 0) return;
  const int64_t each = larger<int64_t>(64, ceil_div(rows, 1024)), parts = ceil_div(rows, each);
  const Scratch<float> partial(larger<int64_t>(parts * columns, 1));
  const ColumnSumArgs<Fn> a{fn, rows, columns, each, parts, partial.data(), to, width, add};
  const int64_t blocks = ceil_div(columns, kColumnThreads);
  launch(sum_part<Fn>, {blocks, parts}, kColumnThreads, a);
  launch(join_parts<Fn>, {blocks}, kColumnThreads, a);
}
// The same to a vector.
template <class Fn>
void sum_columns(const Fn& fn, int64_t rows, const Tensor& to, bool add = false) {
  sum_columns(fn, rows, to[0], Rows<float>(to), to[0], add);
}

// C (m, n) = A (m, k) · B (k, n), or as much more, of anything that gives a(i, k) and b(k, j). f32 multiply-adds.
template <class A, class B>
struct RowProductArgs {
  A a;
  B b;
  Rows<float> c;
  int64_t m, n, k;
  bool add;
};

constexpr int kProductSide = 64, kProductDepth = 16, kProductThreads = 256;

struct alignas(16) RowProductShared {
  float a[kProductDepth][kProductSide + 1];
  float b[kProductDepth][kProductSide + 1];
};

template <class A, class B>
__global__ void __launch_bounds__(kProductThreads, 2) row_product(RowProductArgs<A, B> p) {
  auto& s = shared<RowProductShared>();
  const int64_t row0 = int64_t(blockIdx.x) * kProductSide, column0 = int64_t(blockIdx.y) * kProductSide;
  const int across = int(threadIdx.x) % 16, down = int(threadIdx.x) / 16;
  float sums[4][4] = {};
  for (int64_t k0 = 0; k0 < p.k; k0 += kProductDepth) {
    barrier();
    for (int i = int(threadIdx.x); i < kProductDepth * kProductSide; i += kProductThreads) {
      const int k = i / kProductSide, j = i % kProductSide;
      s.a[k][j] = k0 + k < p.k && row0 + j < p.m ? p.a(row0 + j, k0 + k) : 0;
      s.b[k][j] = k0 + k < p.k && column0 + j < p.n ? p.b(k0 + k, column0 + j) : 0;
    }
    barrier();
#pragma unroll
    for (int k = 0; k < kProductDepth; ++k)
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) sums[i][j] += s.a[k][down + 16 * i] * s.b[k][across + 16 * j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int64_t row = row0 + down + 16 * i, column = column0 + across + 16 * j;
      if (row >= p.m || column >= p.n) continue;
      const global<float> c = p.c[row] + column;
      *c = p.add ? *c + sums[i][j] : sums[i][j];
    }
}

template <class A, class B>
void multiply_rows(const A& a, const B& b, const Rows<float>& c, int64_t m, int64_t n, int64_t k, bool add) {
  launch(row_product<A, B>, {ceil_div(m, kProductSide), ceil_div(n, kProductSide)}, kProductThreads,
         {a, b, c, m, n, k, add});
}

}  // namespace statespace::cuda
