// s4Kernel and s4Recurrent against the dense system over all conjugate pairs in f64, and against each other.
#include <complex>

#include "core/error.h"
#include "ops/fft_conv.h"
#include "ops/s4_kernel.h"
#include "ops/s4_recurrent.h"
#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

using Z = std::complex<double>;
using Matrix = std::vector<std::vector<Z>>;

// A⁻¹ B by Gauss-Jordan elimination.
Matrix solve(Matrix a, Matrix b) {
  const size_t n = a.size();
  for (size_t i = 0; i < n; ++i) {
    size_t best = i;
    for (size_t r = i; r < n; ++r)
      if (std::abs(a[r][i]) > std::abs(a[best][i])) best = r;
    std::swap(a[i], a[best]), std::swap(b[i], b[best]);
    for (size_t r = 0; r < n; ++r) {
      if (r == i) continue;
      const Z f = a[r][i] / a[i][i];
      for (size_t c = 0; c < n; ++c) a[r][c] -= f * a[i][c];
      for (size_t c = 0; c < b[r].size(); ++c) b[r][c] -= f * b[i][c];
    }
  }
  for (size_t i = 0; i < n; ++i)
    for (auto& v : b[i]) v /= a[i][i];
  return b;
}

enum class Kind { real, diagonal, low_rank };

struct System {
  Kind kind;
  int64_t channels, n_state;
  std::vector<float> A, B, C, P, D, log_dt;

  System(Kind kind, int64_t channels, int64_t n_state, float slowest)
      : kind(kind), channels(channels), n_state(n_state), D(uniform(channels, 5)) {
    const int64_t pair = kind == Kind::real ? 1 : 2, n = channels * n_state * pair;
    A = uniform(n, 1), B = uniform(n, 2), C = uniform(n, 3), P = uniform(n, 4, -0.7f, 0.7f);
    log_dt = uniform(channels, 6, std::log(slowest), std::log(0.1f));
    for (int64_t i = 0; i < channels * n_state; ++i) {
      A[i * pair] = -0.5f - (kind == Kind::real ? float(i % n_state) : 0);
      if (pair == 2) A[i * pair + 1] = -3.14159265f * float(i % n_state);
    }
    if (kind == Kind::diagonal) A[0] = A[1] = 0;  // an integrator: (e^x - 1)/A at A = 0
  }
  Z value(const std::vector<float>& v, int64_t c, int64_t n) const {
    const int64_t i = c * n_state + n;
    return kind == Kind::real ? Z(v[i]) : Z(v[2 * i], v[2 * i + 1]);
  }
  Tensor tensor(std::vector<float>& v) const {
    return kind == Kind::real ? view(v, {channels, n_state}) : view(v, {channels, n_state, 2});
  }
  template <class Op>
  void bind(Op& op, int method) {
    op.A = tensor(A), op.B = tensor(B), op.C = tensor(C);
    if (kind == Kind::low_rank) op.P = tensor(P);
    op.log_dt = view(log_dt, {channels});
    op.method = method;
  }

  // One channel as Ā, B̄, C over all pairs (the kept half twice for a real system, which has the factor 2 as well).
  void dense(int64_t c, int method, Matrix& abar, Matrix& bbar, std::vector<Z>& out) const {
    const size_t n = 2 * n_state;
    const double dt = std::exp(double(log_dt[c]));
    abar = Matrix(n, std::vector<Z>(n)), bbar = Matrix(n, std::vector<Z>(1));
    out.resize(n);
    std::vector<Z> a(n), p(n);
    for (size_t i = 0; i < n; ++i) {
      auto half = [&](const std::vector<float>& v) {
        const Z z = value(v, c, i % n_state);
        return i < size_t(n_state) ? z : std::conj(z);
      };
      a[i] = half(A), bbar[i][0] = half(B), out[i] = half(C);
      if (kind == Kind::low_rank) p[i] = half(P);
    }
    if (method == 0) {
      for (size_t i = 0; i < n; ++i) {
        abar[i][i] = std::exp(dt * a[i]);
        bbar[i][0] *= std::abs(a[i]) == 0 ? Z(dt) : (abar[i][i] - 1.0) / a[i];
      }
      return;
    }
    Matrix left(n, std::vector<Z>(n)), right(n, std::vector<Z>(n + 1));
    for (size_t i = 0; i < n; ++i) {
      for (size_t j = 0; j < n; ++j) {
        const Z entry = (i == j ? a[i] : 0.0) - p[i] * std::conj(p[j]);
        left[i][j] = double(i == j) - dt / 2 * entry, right[i][j] = double(i == j) + dt / 2 * entry;
      }
      right[i][n] = dt * bbar[i][0];
    }
    right = solve(left, right);
    for (size_t i = 0; i < n; ++i) {
      bbar[i][0] = right[i][n];
      for (size_t j = 0; j < n; ++j) abar[i][j] = right[i][j];
    }
  }

  std::vector<float> kernel(int64_t length, int method) const {
    std::vector<float> K(channels * length);
    for (int64_t c = 0; c < channels; ++c) {
      Matrix a, h;
      std::vector<Z> out;
      dense(c, method, a, h, out);
      for (int64_t l = 0; l < length; ++l) {
        Z y = 0;
        Matrix next = h;
        for (size_t i = 0; i < h.size(); ++i) {
          y += out[i] * h[i][0];
          next[i][0] = 0;
          if (kind == Kind::low_rank)
            for (size_t j = 0; j < h.size(); ++j) next[i][0] += a[i][j] * h[j][0];
          else
            next[i][0] = a[i][i] * h[i][0];
        }
        K[c * length + l] = float(y.real());
        h = next;
      }
    }
    return K;
  }
};

struct Case {
  Kind kind;
  int method;
  int64_t channels, n_state, length;
};
const Case kCases[] = {
    {Kind::real, 0, 4, 8, 21},       {Kind::real, 1, 1, 3, 300},     {Kind::diagonal, 0, 3, 8, 20},
    {Kind::diagonal, 0, 17, 5, 129}, {Kind::diagonal, 1, 3, 4, 24},  {Kind::diagonal, 0, 2, 32, 4000},
    {Kind::low_rank, 1, 2, 4, 1},    {Kind::low_rank, 1, 3, 4, 25},  {Kind::low_rank, 1, 2, 16, 257},
    {Kind::low_rank, 1, 18, 3, 64},  {Kind::low_rank, 1, 1, 8, 2000}};

double largest(const std::vector<float>& v) {
  double m = 0;
  for (float x : v) m = std::max(m, std::fabs(double(x)));
  return m;
}

}  // namespace

TEST_CASE("s4Kernel: the powers of the dense system") {
  each_backend([](const Backend& backend) {
    for (const Case& c : kCases) {
      CAPTURE(int(c.kind));
      CAPTURE(c.length);
      System system(c.kind, c.channels, c.n_state, 1e-3f);
      std::vector<float> K(c.channels * c.length, NAN);
      S4Kernel op;
      system.bind(op, c.method);
      op.K = view(K, {c.channels, c.length});
      run(backend, op);
      const auto expected = system.kernel(c.length, c.method);
      CHECK(max_error(K, expected) < 1e-6 * largest(expected));
    }
  });
}

TEST_CASE("s4Recurrent: steps, ragged and continued, equal the convolution") {
  each_backend([](const Backend& backend) {
    for (const Case& c : kCases) {
      CAPTURE(int(c.kind));
      CAPTURE(c.length);
      System system(c.kind, c.channels, c.n_state, 1e-3f);
      const int64_t pair = c.kind == Kind::real ? 1 : 2, D = c.channels, L = c.length, cut = L / 3;
      auto x = uniform(2 * L * D, 8);
      auto K = system.kernel(L, c.method);
      std::vector<float> convolved(2 * L * D, NAN), y(2 * L * D, NAN);
      std::vector<int32_t> halves = {0, int32_t(L), int32_t(2 * L)};
      FftConv conv;
      conv.x = view(x, {2 * L, D});
      conv.kernel = view(K, {D, L});
      conv.D = view(system.D, {D});
      conv.cu_seqlens = view(halves);
      conv.y = view(convolved, {2 * L, D});
      run(backend, conv);

      // Two sequences in slots 2 and 0: whole, and in two parts the second of which continues the first.
      std::vector<float> state(3 * D * c.n_state * pair, 0.f);
      auto steps = [&](int64_t begin, std::vector<int32_t> bounds, std::vector<int32_t> slots) {
        const int64_t tokens = bounds.back();
        S4Recurrent op;
        system.bind(op, c.method);
        op.x = view(x, {tokens, D});
        op.y = view(y, {tokens, D});
        op.x.data = x.data() + begin * D, op.y.data = y.data() + begin * D;
        op.D = view(system.D, {D});
        op.state = pair == 1 ? view(state, {3, D, c.n_state}) : view(state, {3, D, c.n_state, 2});
        op.cu_seqlens = view(bounds);
        op.slots = view(slots);
        run(backend, op);
      };
      steps(0, {0, int32_t(L), int32_t(L), int32_t(L + cut)}, {2, 1, 0});
      steps(L + cut, {0, int32_t(L - cut)}, {0});
      CHECK(relative_error(y, convolved) < 5e-6);
      for (int64_t i = 0; i < D * c.n_state * pair; ++i) CHECK(state[D * c.n_state * pair + i] == 0);
    }
  });
}

TEST_CASE("s4: real and complex do not mix, and P is bilinear") {
  std::vector<float> data(100);
  S4Kernel op;
  op.A = op.B = op.C = op.P = view(data, {2, 3, 2});
  op.log_dt = view(data, {2});
  op.K = view(data, {2, 5});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("bilinear"), Error);
  op.method = 1;
  CHECK_NOTHROW(check(op));
  op.B = view(data, {2, 3});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("all real or all"), Error);
}
