#include "core/hippo.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numbers>
#include <vector>

#include "core/error.h"
#include "core/thread_pool.h"

namespace statespace {
namespace {

// The largest |Im B|: fast modes would otherwise start far louder than slow ones.
constexpr double kLoudest = 2;

// Not std::hypot: of such values no square leaves the range, and it needs a newer glibc than the package may.
double square(double x) { return x * x; }

// Reduces the skew matrix K (n, n) to tridiagonal form by Householder's reflections; b becomes Qᵀb. Returns the
// subdiagonal.
std::vector<double> tridiagonalise(double* K, int64_t n, std::vector<double>& b, const std::atomic<bool>* stop) {
  std::vector<double> v(n), w(n);
  for (int64_t k = 0; k + 2 < n; ++k) {
    throw_if_stopped(stop);
    // A reflection 1 − 2vvᵀ of the rows and columns below k that leaves one value in column k.
    double norm = 0;
    for (int64_t i = k + 1; i < n; ++i) norm += square(K[i * n + k]);
    norm = std::sqrt(norm);
    if (norm == 0) continue;
    const double first = K[(k + 1) * n + k];
    std::fill(v.begin(), v.end(), 0);
    for (int64_t i = k + 1; i < n; ++i) v[i] = K[i * n + k];
    v[k + 1] = first + (first < 0 ? -norm : norm);
    double length = 0;
    for (int64_t i = k + 1; i < n; ++i) length += square(v[i]);
    length = std::sqrt(length);
    for (int64_t i = k + 1; i < n; ++i) v[i] /= length;
    // HKH = K − 2v(vᵀK) − 2(Kv)vᵀ, as vᵀKv = 0; with w = 2Kv and vᵀK = −(Kv)ᵀ that is K + v·wᵀ − w·vᵀ.
    for (int64_t i = k; i < n; ++i) {
      throw_if_stopped(stop);
      double sum = 0;
      for (int64_t j = k + 1; j < n; ++j) sum += K[i * n + j] * v[j];
      w[i] = 2 * sum;
    }
    for (int64_t i = k; i < n; ++i) {
      throw_if_stopped(stop);
      for (int64_t j = k; j < n; ++j) K[i * n + j] += v[i] * w[j] - w[i] * v[j];
    }
    double along = 0;
    for (int64_t i = k + 1; i < n; ++i) along += v[i] * b[i];
    for (int64_t i = k + 1; i < n; ++i) b[i] -= 2 * along * v[i];
  }
  std::vector<double> off(n);
  for (int64_t k = 0; k + 1 < n; ++k) off[k] = K[(k + 1) * n + k];
  return off;
}

// Eigenvalues of the symmetric tridiagonal matrix with zero diagonal and subdiagonal e, by QL with implicit shifts
// (Golub & Van Loan); both rows are multiplied by the eigenvectors from the right.
std::vector<double> symmetric_tridiagonal(std::vector<double>& e, int64_t n, std::vector<double> (&rows)[2],
                                          const std::atomic<bool>* stop) {
  constexpr int kSweeps = 60;
  std::vector<double> d(n);
  double most = 0;
  for (double x : e) most = std::max(most, std::abs(x));
  const double small = std::numeric_limits<double>::epsilon() * most;
  for (int64_t l = 0; l < n; ++l) {
    throw_if_stopped(stop);
    for (int sweep = 0;; ++sweep) {
      int64_t m = l;
      while (m + 1 < n && std::abs(e[m]) > small) ++m;
      if (m == l) break;
      if (sweep == kSweeps) throw Error(Code::kState, "the tridiagonal eigenvalue iteration did not converge");
      const double slope = (d[l + 1] - d[l]) / (2 * e[l]);
      double g = d[m] - d[l] + e[l] / (slope + std::copysign(std::sqrt(square(slope) + 1), slope));
      double s = 1, c = 1, p = 0;
      int64_t i = m - 1;
      for (; i >= l; --i) {
        const double f = s * e[i], h = c * e[i], r = std::sqrt(square(f) + square(g));
        e[i + 1] = r;
        if (r == 0) {
          d[i + 1] -= p;
          e[m] = 0;
          break;
        }
        s = f / r, c = g / r;
        g = d[i + 1] - p;
        const double t = (d[i] - g) * s + 2 * c * h;
        p = s * t;
        d[i + 1] = g + p;
        g = c * t - h;
        for (auto& z : rows) {
          const double a = z[i], b = z[i + 1];
          z[i + 1] = s * a + c * b;
          z[i] = c * a - s * b;
        }
      }
      if (i >= l) continue;
      d[l] -= p;
      e[l] = g;
      e[m] = 0;
    }
  }
  return d;
}

// LegS = −½ + K − p·pᵀ with p = √(n + ½) and K[n, k] = ∓½√((2n+1)(2k+1)) skew: −½ + K is the normal part. K's
// eigenvalues are i·λ. K = Q·T·Qᵀ with T skew tridiagonal; with D = diag((−i)^k), D*·(−iT)·D is real symmetric
// tridiagonal with a zero diagonal: the eigenvectors are Q·D·y for its real ones y. So v*·b = Σ_k y_k·i^k·(Qᵀb)_k: only
// two rows, the real and the imaginary part, need to follow the rotations of the tridiagonal solver.
void legs(int64_t n, float* A, float* B, const std::atomic<bool>* stop) {
  std::vector<double> b(n);
  const std::unique_ptr<double[]> K(new double[size_t(n) * n]);  // touched row by row, where an abort is heard
  for (int64_t i = 0; i < n; ++i) b[i] = std::sqrt(2.0 * i + 1);
  for (int64_t i = 0; i < n; ++i, throw_if_stopped(stop))
    for (int64_t k = 0; k < n; ++k) K[i * n + k] = k == i ? 0 : (k > i ? 0.5 : -0.5) * b[i] * b[k];
  std::vector<double> off = tridiagonalise(K.get(), n, b, stop);
  std::vector<double> rows[2] = {std::vector<double>(n), std::vector<double>(n)};
  for (int64_t k = 0; k < n; ++k) rows[k % 2][k] = k % 4 < 2 ? b[k] : -b[k];
  const std::vector<double> values = symmetric_tridiagonal(off, n, rows, stop);
  std::vector<int64_t> order(n);
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return values[x] < values[y]; });
  for (int64_t i = 0; i < n / 2; ++i) {
    A[2 * i] = -0.5f, A[2 * i + 1] = float(values[order[i]]);
    B[2 * i] = float(rows[0][order[i]]);
    B[2 * i + 1] = float(std::clamp(rows[1][order[i]], -kLoudest, kLoudest));
  }
}

}  // namespace

void hippo_legs(int64_t n, float* A, float* B, const std::atomic<bool>* stop) {
  for (int64_t i = 0; i < n; ++i) {
    throw_if_stopped(stop);
    B[i] = float(std::sqrt(2.0 * i + 1));
    for (int64_t k = 0; k < n; ++k)
      A[i * n + k] = k < i ? float(-std::sqrt((2.0 * i + 1) * (2.0 * k + 1))) : k == i ? -float(i + 1) : 0.0f;
  }
}

void s4d_init(S4dInit init, int64_t n, float* A, float* B, const std::atomic<bool>* stop) {
  if (init == S4dInit::legs) return legs(n, A, B, stop);
  constexpr double pi = std::numbers::pi;
  for (int64_t i = 0; i < n / 2; ++i) {
    A[2 * i] = init == S4dInit::real ? -float(i + 1) : -0.5f;
    A[2 * i + 1] = init == S4dInit::real  ? 0.0f
                   : init == S4dInit::lin ? float(-pi * double(i))
                                          : float(-(double(n) / pi) * (double(n) / (2.0 * double(i) + 1) - 1));
    B[2 * i] = 1, B[2 * i + 1] = 0;
  }
}

}  // namespace statespace
