#include "ops/discretize_dense.h"

#include <cmath>
#include <cstring>

#include "backend/kernels.h"
#include "kernels/dense_exponential.h"

// In f64 throughout: a HiPPO matrix has a condition number that grows exponentially with its size.
namespace statespace::STATESPACE_ISA {
namespace {

enum Method { kZoh, kZohEuler, kBilinear };

}  // namespace

template <>
void run(const DiscretizeDense& op, Context& cx) {
  const int64_t n = op.A[0], inputs = op.B[1], all = n + inputs;
  const double delta = op.delta;
  double* work = cx.shared<double>(8 * all * all + all);

  if (op.method == kBilinear) {
    double *left = work, *right = left + n * n;  // (n, n), (n, n + inputs): both right sides at once
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const double half = delta / 2 * op.A.row(i)[j];
        left[i * n + j] = double(i == j) - half;
        right[i * all + j] = double(i == j) + half;
      }
      for (int64_t j = 0; j < inputs; ++j) right[i * all + n + j] = delta * op.B.row(i)[j];
    }
    solve(cx, left, right, n, all);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) op.Abar.row(i)[j] = float(right[i * all + j]);
      for (int64_t j = 0; j < inputs; ++j) op.Bbar.row(i)[j] = float(right[i * all + n + j]);
    }
    return;
  }

  // exp([[A, B], [0, 0]]·delta) = [[Abar, Bbar], [0, 1]]. Bbar is linear in B, so B is first brought below A's size by
  // a power of two: a large B alone would cause squarings, and each one loses accuracy. A column of B that is not
  // finite is none: zeros times it would be in Abar and the other columns.
  const bool euler = op.method == kZohEuler;
  const int64_t size = euler ? n : all;
  double* m = work;
  double a_max = 0, b_max = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) a_max = ::fmax(a_max, ::fabs(op.A.row(i)[j]));
  }
  bool* finite = reinterpret_cast<bool*>(work + 8 * all * all);
  for (int64_t j = 0; j < inputs; ++j) {
    double most = 0;
    finite[j] = true;
    for (int64_t i = 0; i < n; ++i) {
      most = ::fmax(most, ::fabs(op.B.row(i)[j]));
      finite[j] = finite[j] && ::fabs(op.B.row(i)[j]) < HUGE_VAL;
    }
    if (finite[j]) b_max = ::fmax(b_max, most);
  }
  const double below = a_max > 0 ? a_max : 1;
  int shift = 0;
  if (b_max > below) ::frexp(b_max / below, &shift);
  for (int64_t i = 0; i < size * size; ++i) m[i] = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) m[i * size + j] = delta * op.A.row(i)[j];
    for (int64_t j = n; j < size; ++j)
      m[i * size + j] = finite[j - n] ? ::ldexp(delta * op.B.row(i)[j - n], -shift) : 0;
  }
  exponential(cx, m, size, work + size * size);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) op.Abar.row(i)[j] = float(m[i * size + j]);
    for (int64_t j = 0; j < inputs; ++j)
      op.Bbar.row(i)[j] = float(euler ? delta * op.B.row(i)[j] : finite[j] ? ::ldexp(m[i * size + n + j], shift) : NAN);
  }
}

}  // namespace statespace::STATESPACE_ISA
