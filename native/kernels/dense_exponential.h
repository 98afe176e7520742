#pragma once
// Small dense matrices in f64, for what is computed of a state space's once: products, solutions, e^M.
#include <cmath>
#include <cstring>

#include "core/context.h"
#include "kernels/sequences.h"
#include "ops/discretize_dense.h"

namespace statespace::STATESPACE_ISA {

constexpr int64_t kPivotRows = 16, kSolvedColumns = 64;  // of one piece of a solution

// out = a·b, all (n, n) but b and out (n, columns).
inline void multiply(Context& cx, const double* a, const double* b, int64_t n, int64_t columns, double* out) {
  cx.parallel_for(n, [&](int64_t i, int) {
    double* row = out + i * columns;
    for (int64_t j = 0; j < columns; ++j) row[j] = 0;
    for (int64_t k = 0; k < n; ++k)
      for (int64_t j = 0; j < columns; ++j) row[j] += a[i * n + k] * b[k * columns + j];
  });
}

// x (n, columns) becomes a⁻¹·x; a (n, n) is overwritten. Gauss with partial pivoting; a singular a gives inf or NaN.
inline void solve(Context& cx, double* a, double* x, int64_t n, int64_t columns) {
  auto swap_rows = [](double* m, int64_t i, int64_t j, int64_t width) {
    for (int64_t c = 0; c < width; ++c) {
      const double t = m[i * width + c];
      m[i * width + c] = m[j * width + c], m[j * width + c] = t;
    }
  };
  for (int64_t k = 0; k < n; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < n; ++i)
      if (::fabs(a[i * n + k]) > ::fabs(a[pivot * n + k])) pivot = i;
    if (pivot != k) swap_rows(a, k, pivot, n), swap_rows(x, k, pivot, columns);
    const auto eliminate = [&](int64_t i) {
      const double f = a[i * n + k] / a[k * n + k];
      for (int64_t j = k + 1; j < n; ++j) a[i * n + j] -= f * a[k * n + j];
      for (int64_t j = 0; j < columns; ++j) x[i * columns + j] -= f * x[k * columns + j];
    };
    const int64_t below = n - k - 1;
    cx.parallel_for(ceil_div(below, kPivotRows), [&](int64_t piece, int) {
      const int64_t begin = k + 1 + piece * kPivotRows, end = begin + kPivotRows < n ? begin + kPivotRows : n;
      for (int64_t i = begin; i < end; ++i) eliminate(i);
    });
  }
  // Row k from the rows below it, a strip of columns each.
  cx.parallel_for(ceil_div(columns, kSolvedColumns), [&](int64_t piece, int) {
    const int64_t begin = piece * kSolvedColumns,
                  end = begin + kSolvedColumns < columns ? begin + kSolvedColumns : columns;
    for (int64_t k = n - 1; k >= 0; --k) {
      cx.check_stop();
      double* row = x + k * columns;
      for (int64_t i = k + 1; i < n; ++i)
        for (int64_t j = begin; j < end; ++j) row[j] -= a[k * n + i] * x[i * columns + j];
      for (int64_t j = begin; j < end; ++j) row[j] /= a[k * n + k];
    }
  });
}

inline double norm1(const double* a, int64_t rows, int64_t columns) {
  double most = 0;
  for (int64_t j = 0; j < columns; ++j) {
    double total = 0;
    for (int64_t i = 0; i < rows; ++i) total += ::fabs(a[i * columns + j]);
    if (!(total <= most)) most = total;
  }
  return most;
}

// m (n, n) becomes e^m, by scaling and squaring. work: 6·n².
inline void exponential(Context& cx, double* m, int64_t n, double* work) {
  constexpr Pade13 pade;
  const int64_t size = n * n;
  double *m2 = work, *m4 = m2 + size, *m6 = m4 + size, *u = m6 + size, *v = u + size, *t = v + size;

  const double norm = norm1(m, n, n);
  int squarings = 0;
  if (norm > Pade13::kLargestNorm) ::frexp(norm / Pade13::kLargestNorm, &squarings);
  for (int64_t i = 0; i < size; ++i) m[i] = ::ldexp(m[i], -squarings);

  multiply(cx, m, m, n, n, m2);
  multiply(cx, m2, m2, n, n, m4);
  multiply(cx, m4, m2, n, n, m6);
  auto odd_and_even = [&](int first, double* out, double* high) {
    for (int64_t i = 0; i < size; ++i)
      high[i] = pade.b[first + 12] * m6[i] + pade.b[first + 10] * m4[i] + pade.b[first + 8] * m2[i];
    multiply(cx, m6, high, n, n, out);
    for (int64_t i = 0; i < size; ++i)
      out[i] += pade.b[first + 6] * m6[i] + pade.b[first + 4] * m4[i] + pade.b[first + 2] * m2[i];
    for (int64_t i = 0; i < n; ++i) out[i * n + i] += pade.b[first];
  };
  odd_and_even(0, v, t);
  odd_and_even(1, u, t);
  multiply(cx, m, u, n, n, t);
  for (int64_t i = 0; i < size; ++i) u[i] = v[i] - t[i], m[i] = v[i] + t[i];
  solve(cx, u, m, n, n);
  for (int s = 0; s < squarings; ++s) {
    multiply(cx, m, m, n, n, t);
    std::memcpy(m, t, size * sizeof(double));
  }
}

}  // namespace statespace::STATESPACE_ISA
