#include <cmath>

#include "backend/kernels.h"
#include "kernels/dense_exponential.h"
#include "ops/discretize_dense.h"

namespace statespace::STATESPACE_ISA {
namespace {

// In f64, as the forward.
class Discretization {
 public:
  Discretization(const DiscretizeDenseBackward& op, Context& cx)
      : op_(op), cx_(cx), n_(op.A[0]), inputs_(op.B[1]), delta_(op.delta) {}

  // e^X and, with `integral`, F = ∫ e^{sX} ds over [0, 1], of the size of one or two blocks.
  void exponentials(bool integral) {
    const int64_t one = integral ? 2 * n_ : n_, size = 2 * one;
    double* m = cx_.shared<double>(7 * size * size);
    for (int64_t i = 0; i < size * size; ++i) m[i] = 0;
    // Mᵀ twice, of M = X or [[X, 1], [0, 0]]; above its size the gradient would cause squarings, and the result is
    // linear in it.
    double largest = 0, above = 0;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = 0; j < n_; ++j) {
        const double x = delta_ * op_.A.row(j)[i];
        m[i * size + j] = m[(one + i) * size + one + j] = x;
        m[i * size + one + j] = op_.dAbar ? op_.dAbar.row(i)[j] : 0;
        if (integral) m[i * size + one + n_ + j] = of_integral(i, j);
        largest = ::fmax(largest, ::fabs(x));
        above = ::fmax(above, ::fmax(::fabs(m[i * size + one + j]), ::fabs(m[i * size + one + one - n_ + j])));
      }
    for (int64_t i = 0; integral && i < n_; ++i) m[(n_ + i) * size + i] = m[(one + n_ + i) * size + one + i] = 1;
    int shift = 0;
    if (above > ::fmax(largest, 1)) ::frexp(above / ::fmax(largest, 1), &shift);
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = one; j < size; ++j) m[i * size + j] = ::ldexp(m[i * size + j], -shift);
    exponential(cx_, m, size, m + size * size);
    for (int64_t i = 0; op_.dA && i < n_; ++i)
      for (int64_t j = 0; j < n_; ++j) op_.dA.row(i)[j] = float(delta_ * ::ldexp(m[i * size + one + j], shift));
    if (integral)
      inputs_gradient([&](int64_t i, int64_t j) { return m[(n_ + i) * size + j]; });  // Fᵀ
    else
      inputs_gradient([](int64_t i, int64_t j) { return double(i == j); });
  }

  void bilinear() {
    const int64_t size = n_ * n_;
    double *left = cx_.shared<double>(5 * size), *S = left + size, *H = S + size, *SH = H + size, *dX = SH + size;
    for (int64_t i = 0; i < n_; ++i)
      for (int64_t j = 0; j < n_; ++j) {
        left[i * n_ + j] = double(i == j) - delta_ / 2 * op_.A.row(j)[i];
        S[i * n_ + j] = double(i == j);
        H[i * n_ + j] = (op_.dAbar ? 2.0 * op_.dAbar.row(i)[j] : 0) + of_integral(i, j);
      }
    solve(cx_, left, S, n_, n_);  // (1 - X/2)⁻ᵀ
    multiply(cx_, S, H, n_, n_, SH);
    multiply(cx_, SH, S, n_, n_, dX);
    for (int64_t i = 0; op_.dA && i < n_; ++i)
      for (int64_t j = 0; j < n_; ++j) op_.dA.row(i)[j] = float(delta_ / 2 * dX[i * n_ + j]);
    inputs_gradient([&](int64_t i, int64_t j) { return S[i * n_ + j]; });
  }

 private:
  // dBbar·(delta·B)ᵀ
  double of_integral(int64_t i, int64_t j) const {
    double sum = 0;
    for (int64_t c = 0; op_.dBbar && c < inputs_; ++c) sum += double(op_.dBbar.row(i)[c]) * op_.B.row(j)[c];
    return delta_ * sum;
  }
  // dB = delta · (what B is multiplied by)ᵀ · dBbar
  template <class Factor>
  void inputs_gradient(Factor&& factor) const {
    for (int64_t i = 0; op_.dB && i < n_; ++i)
      for (int64_t c = 0; c < inputs_; ++c) {
        double sum = 0;
        for (int64_t j = 0; op_.dBbar && j < n_; ++j) sum += factor(i, j) * op_.dBbar.row(j)[c];
        op_.dB.row(i)[c] = float(delta_ * sum);
      }
  }

  const DiscretizeDenseBackward& op_;
  Context& cx_;
  const int64_t n_, inputs_;
  const double delta_;
};

}  // namespace

template <>
void run(const DiscretizeDenseBackward& op, Context& cx) {
  Discretization d(op, cx);
  constexpr int32_t kEuler = 1, kTustin = 2;
  if (op.method == kTustin)
    d.bilinear();
  else
    d.exponentials(op.method != kEuler);
}

}  // namespace statespace::STATESPACE_ISA
