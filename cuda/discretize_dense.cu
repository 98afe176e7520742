// A dense system, in f64 throughout: a HiPPO matrix has a condition number that grows exponentially with its size. How
// often the exponential is squared depends on the matrix, so that one block does everything: it never is the hot path.
#include "ops/discretize_dense.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;

enum Method { kZoh, kZohEuler, kBilinear };

struct DenseArgs {
  Rows<const float> A, B;
  Rows<float> Abar, Bbar;
  int n, inputs;
  double delta;
  int32_t method;
  global<double> work;  // 8 matrices of n + inputs
};

using Matrix = global<double>;

template <class Fn>
__device__ void each(int64_t count, Fn fn) {
  for (int64_t i = threadIdx.x; i < count; i += kThreads) fn(i);
  barrier();
}

// out = a·b, all (n, n).
__device__ void multiply(Matrix a, Matrix b, int n, Matrix out) {
  each(int64_t(n) * n, [&](int64_t i) {
    const Matrix row = a + i / n * n, column = b + i % n;
    double sum = 0;
    for (int k = 0; k < n; ++k) sum += row[k] * column[k * int64_t(n)];
    out[i] = sum;
  });
}

// The largest of a value of every thread, in all of them; a NaN wins.
__device__ double block_max(double v) {
  struct Shared {
    double v[kThreads / 32];
  };
  auto& s = shared<Shared>();
  auto higher = [](double a, double b) { return a != a || b <= a ? a : b; };
  for (int mask = 16; mask > 0; mask /= 2) v = higher(v, shuffle_xor(v, mask));
  barrier();
  if (lane() == 0) s.v[warp()] = v;
  barrier();
  for (int w = 0; w < kThreads / 32; ++w) v = higher(v, s.v[w]);
  return v;
}

// x (n, columns) becomes a⁻¹·x; a (n, n) is overwritten. Gauss with partial pivoting; a singular a gives inf or NaN.
__device__ void solve(Matrix a, Matrix x, int n, int columns) {
  for (int k = 0; k < n; ++k) {
    int pivot = k;  // every thread looks for itself: they agree
    for (int i = k + 1; i < n; ++i)
      if (fabs(a[i * int64_t(n) + k]) > fabs(a[pivot * int64_t(n) + k])) pivot = i;
    barrier();
    if (pivot != k) {
      auto swap = [&](Matrix m, int width, int64_t j) {
        const double held = m[k * int64_t(width) + j];
        m[k * int64_t(width) + j] = m[pivot * int64_t(width) + j], m[pivot * int64_t(width) + j] = held;
      };
      each(n + columns, [&](int64_t j) { j < n ? swap(a, n, j) : swap(x, columns, j - n); });
    }
    const int64_t below = n - k - 1, width = n - k - 1 + columns;
    each(below * width, [&](int64_t i) {
      const int64_t r = k + 1 + i / width, j = i % width;
      const double f = a[r * n + k] / a[k * int64_t(n) + k];
      if (j < below)
        a[r * n + k + 1 + j] -= f * a[k * int64_t(n) + k + 1 + j];
      else
        x[r * columns + j - below] -= f * x[k * int64_t(columns) + j - below];
    });
  }
  each(columns, [&](int64_t j) {
    for (int k = n - 1; k >= 0; --k) {
      double sum = x[k * int64_t(columns) + j];
      for (int i = k + 1; i < n; ++i) sum -= a[k * int64_t(n) + i] * x[i * int64_t(columns) + j];
      x[k * int64_t(columns) + j] = sum / a[k * int64_t(n) + k];
    }
  });
}

__device__ double norm1(Matrix a, int n) {
  double most = 0;
  for (int j = int(threadIdx.x); j < n; j += kThreads) {
    double total = 0;
    for (int i = 0; i < n; ++i) total += fabs(a[i * int64_t(n) + j]);
    if (!(total <= most)) most = total;
  }
  return block_max(most);
}

// m (n, n) becomes e^m, by scaling and squaring. work: 6·n².
__device__ void exponential(Matrix m, int n, Matrix work) {
  constexpr Pade13 pade;
  const int64_t size = int64_t(n) * n;
  const Matrix m2 = work, m4 = m2 + size, m6 = m4 + size, u = m6 + size, v = u + size, t = v + size;
  const double norm = norm1(m, n);
  int squarings = 0;
  if (norm > Pade13::kLargestNorm && norm < HUGE_VAL) frexp(norm / Pade13::kLargestNorm, &squarings);
  each(size, [&](int64_t i) { m[i] = ldexp(m[i], -squarings); });
  multiply(m, m, n, m2);
  multiply(m2, m2, n, m4);
  multiply(m4, m2, n, m6);
  auto odd_or_even = [&](int first, Matrix out, Matrix high) {
    const double b[] = {pade.b[first],     pade.b[first + 2],  pade.b[first + 4], pade.b[first + 6],
                        pade.b[first + 8], pade.b[first + 10], pade.b[first + 12]};
    each(size, [&](int64_t i) { high[i] = b[6] * m6[i] + b[5] * m4[i] + b[4] * m2[i]; });
    multiply(m6, high, n, out);
    each(size, [&](int64_t i) { out[i] += b[3] * m6[i] + b[2] * m4[i] + b[1] * m2[i] + (i / n == i % n ? b[0] : 0); });
  };
  odd_or_even(0, v, t);
  odd_or_even(1, u, t);
  multiply(m, u, n, t);
  each(size, [&](int64_t i) { u[i] = v[i] - t[i], m[i] = v[i] + t[i]; });
  solve(u, m, n, n);
  for (int s = 0; s < squarings; ++s) {
    multiply(m, m, n, t);
    each(size, [&](int64_t i) { m[i] = t[i]; });
  }
}

// (I - delta/2 A)⁻¹ of I + delta/2 A and of delta B: both right sides at once.
__device__ void bilinear(const DenseArgs& a) {
  const int64_t n = a.n, all = a.n + a.inputs;
  const Matrix left = a.work, right = left + n * n;
  each(n * all, [&](int64_t i) {
    const int64_t r = i / all, c = i % all;
    if (c < n) {
      const double half = a.delta / 2 * a.A[r][c];
      left[r * n + c] = double(r == c) - half;
      right[i] = double(r == c) + half;
    } else {
      right[i] = a.delta * a.B[r][c - n];
    }
  });
  solve(left, right, a.n, int(all));
  each(n * all, [&](int64_t i) {
    const int64_t r = i / all, c = i % all;
    if (c < n)
      a.Abar[r][c] = float(right[i]);
    else
      a.Bbar[r][c - n] = float(right[i]);
  });
}

// exp([[A, B], [0, 0]]·delta) = [[Abar, Bbar], [0, 1]]. Bbar is linear in B, so B is first brought below A's size by a
// power of two: a large B alone would cause squarings, and each one loses accuracy. A column of B that is not finite is
// none: zeros times it would be in Abar and the other columns.
__device__ void zero_order_hold(const DenseArgs& a) {
  const bool euler = a.method == kZohEuler;
  const int64_t n = a.n, size = euler ? n : n + a.inputs;
  double a_max = 0, b_max = 0;
  for (int64_t i = threadIdx.x; i < n * n; i += kThreads) a_max = larger(a_max, fabs(double(a.A[i / n][i % n])));
  auto finite = [&](int64_t column) {
    for (int64_t i = 0; i < n; ++i)
      if (!(fabs(a.B[i][column]) < HUGE_VAL)) return false;
    return true;
  };
  for (int64_t j = threadIdx.x; j < a.inputs; j += kThreads)
    for (int64_t i = 0; i < n && finite(j); ++i) b_max = larger(b_max, fabs(double(a.B[i][j])));
  a_max = block_max(a_max), b_max = block_max(b_max);
  const double below = a_max > 0 ? a_max : 1;
  int shift = 0;
  if (b_max > below) frexp(b_max / below, &shift);
  const Matrix m = a.work;
  each(size * size, [&](int64_t i) {
    const int64_t r = i / size, c = i % size;
    m[i] = r >= n ? 0 : c < n ? a.delta * a.A[r][c] : finite(c - n) ? ldexp(a.delta * a.B[r][c - n], -shift) : 0;
  });
  exponential(m, int(size), m + size * size);
  each(n * n, [&](int64_t i) { a.Abar[i / n][i % n] = float(m[i / n * size + i % n]); });
  each(n * a.inputs, [&](int64_t i) {
    const int64_t r = i / a.inputs, c = i % a.inputs;
    a.Bbar[r][c] = float(euler ? a.delta * a.B[r][c] : finite(c) ? ldexp(m[r * size + n + c], shift) : NAN);
  });
}

__global__ void __launch_bounds__(kThreads, 3) discretize_dense(DenseArgs a) {
  if (a.method == kBilinear)
    bilinear(a);
  else
    zero_order_hold(a);
}

}  // namespace

template <>
void run(const DiscretizeDense& op) {
  const int64_t n = op.A[0], inputs = op.B[1], all = n + inputs;
  if (n == 0) return;
  const Scratch<double> work(8 * all * all);
  const DenseArgs args{op.A, op.B, op.Abar, op.Bbar, int(n), int(inputs), op.delta, op.method, work.data()};
  launch(discretize_dense, {1}, kThreads, args);
}

}  // namespace statespace::cuda
