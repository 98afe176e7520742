#include "ops/discretize.h"

#include "ops/discretize_dense.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

enum Method { kZoh, kZohEuler, kBilinear };

// e^m by its Taylor series of 2^-20·m, squared 20 times, in long double.
std::vector<long double> exponential(std::vector<long double> m, int64_t n) {
  auto multiply = [n](const std::vector<long double>& a, const std::vector<long double>& b) {
    std::vector<long double> out(n * n);
    for (int64_t i = 0; i < n; ++i)
      for (int64_t k = 0; k < n; ++k)
        for (int64_t j = 0; j < n; ++j) out[i * n + j] += a[i * n + k] * b[k * n + j];
    return out;
  };
  for (auto& v : m) v = std::ldexp(v, -20);
  std::vector<long double> term(n * n), total(n * n);
  for (int64_t i = 0; i < n; ++i) term[i * n + i] = total[i * n + i] = 1;
  for (int k = 1; k < 12; ++k) {
    term = multiply(term, m);
    for (int64_t i = 0; i < n * n; ++i) total[i] += term[i] /= k;
  }
  for (int s = 0; s < 20; ++s) total = multiply(total, total);
  return total;
}

}  // namespace

TEST_CASE("discretize is its formula for every method, with A to zero and far below") {
  const int64_t tokens = 4, d_inner = 5, d_state = 19;
  auto delta = uniform(tokens * d_inner, 1, 1e-4f, 0.7f), A = uniform(d_inner * d_state, 2, -6, 0.5f),
       B = uniform(std::max(tokens, d_inner) * d_state, 3);
  A[0] = 0, A[1] = 1e-7f, A[2] = -1e-5f, A[3] = -1e6f, A[4] = -0.9f;
  each_backend([&](const Backend& backend) {
    for (int method : {kZoh, kZohEuler, kBilinear})
      for (bool constant : {false, true}) {
        std::vector<float> Abar(tokens * d_inner * d_state, NAN), Bbar(Abar), want_A(Abar), want_B(Abar);
        for (int64_t t = 0; t < tokens; ++t)
          for (int64_t d = 0; d < d_inner; ++d)
            for (int64_t n = 0; n < d_state; ++n) {
              const double dt = delta[t * d_inner + d], a = A[d * d_state + n], z = dt * a;
              const double b = B[(constant ? d : t) * d_state + n];
              const int64_t i = (t * d_inner + d) * d_state + n;
              want_A[i] = float(method == kBilinear ? (1 + z / 2) / (1 - z / 2) : std::exp(z));
              want_B[i] = float(method == kBilinear   ? dt / (1 - z / 2) * b
                                : method == kZohEuler ? dt * b
                                : a == 0              ? dt * b
                                                      : std::expm1(z) / a * b);
            }
        Discretize op;
        op.delta = view(delta, {tokens, d_inner});
        op.A = view(A, {d_inner, d_state});
        if (constant)
          op.B = view(B, {d_inner, d_state});
        else
          op.B = view(B, {tokens, 1, d_state});
        op.Abar = view(Abar, {tokens, d_inner, d_state});
        op.Bbar = view(Bbar, {tokens, d_inner, d_state});
        op.method = method;
        run(backend, op);
        CHECK(max_error(Abar, want_A) < 5e-7);
        CHECK(max_error(Bbar, want_B) < 5e-7);
      }
  });
}

TEST_CASE("discretizeDense: exponential of singular, small and large matrices, whatever the size of B") {
  struct Case {
    int64_t n, inputs;
    float delta, spread, b_scale;
  };
  each_backend([&](const Backend& backend) {
    for (const Case& c : {Case{1, 1, 0.1f, 1, 1}, {4, 2, 0.01f, 1, 1}, {7, 1, 1, 3, 1e6f}, {20, 3, 0.5f, 6, 1}}) {
      const int64_t n = c.n, all = n + c.inputs;
      auto A = uniform(n * n, 5, -c.spread, c.spread), B = uniform(n * c.inputs, 6, -c.b_scale, c.b_scale);
      for (int64_t i = 0; i < n; ++i) A[i * n + i] -= c.spread * float(n);  // keeps e^A bounded
      if (n > 1) std::copy_n(&A[0], n, &A[n]);                              // two equal rows: singular
      std::vector<long double> m(all * all);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) m[i * all + j] = (long double)(c.delta) * A[i * n + j];
        for (int64_t j = 0; j < c.inputs; ++j) m[i * all + n + j] = (long double)(c.delta) * B[i * c.inputs + j];
      }
      const auto e = exponential(m, all);
      std::vector<float> Abar(n * n, NAN), Bbar(n * c.inputs, NAN), want_A(Abar), want_B(Bbar), euler(Bbar);
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) want_A[i * n + j] = float(e[i * all + j]);
        for (int64_t j = 0; j < c.inputs; ++j) {
          want_B[i * c.inputs + j] = float(e[i * all + n + j] / c.b_scale);
          euler[i * c.inputs + j] = c.delta * B[i * c.inputs + j];
        }
      }
      DiscretizeDense op;
      op.A = view(A, {n, n});
      op.B = view(B, {n, c.inputs});
      op.Abar = view(Abar, {n, n});
      op.Bbar = view(Bbar, {n, c.inputs});
      op.delta = c.delta;
      run(backend, op);
      for (auto& v : Bbar) v /= c.b_scale;
      CHECK(max_error(Abar, want_A) < 3e-7);
      CHECK(max_error(Bbar, want_B) < 3e-7);
      op.method = kZohEuler;
      run(backend, op);
      CHECK(max_error(Abar, want_A) < 3e-7);
      CHECK(max_error(Bbar, euler) < 1e-12);
    }
  });
}

TEST_CASE("discretizeDense bilinear satisfies its defining equation, with a zero pivot on the diagonal") {
  const int64_t n = 6, inputs = 2;
  auto A = uniform(n * n, 8), B = uniform(n * inputs, 9);
  A[0] = 4, A[1] = -3;  // delta/2·A[0][0] = 1: I - delta/2·A starts with a zero
  std::vector<float> Abar(n * n), Bbar(n * inputs);
  DiscretizeDense op;
  op.A = view(A, {n, n});
  op.B = view(B, {n, inputs});
  op.Abar = view(Abar, {n, n});
  op.Bbar = view(Bbar, {n, inputs});
  op.delta = 0.5f;
  op.method = kBilinear;
  each_backend([&](const Backend& backend) {
    run(backend, op);
    double worst = 0;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j < n + inputs; ++j) {
        double left = 0;
        for (int64_t k = 0; k < n; ++k)
          left += ((i == k) - 0.25 * A[i * n + k]) * (j < n ? Abar[k * n + j] : Bbar[k * inputs + j - n]);
        const double right = j < n ? (i == j) + 0.25 * A[i * n + j] : 0.5 * B[i * inputs + j - n];
        worst = std::max(worst, std::fabs(left - right));
      }
    CHECK(worst < 2e-6);
  });
}
