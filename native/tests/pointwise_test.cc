#include "ops/activate.h"
#include "ops/add.h"
#include "ops/affine.h"
#include "ops/gate.h"
#include "ops/select_rows.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

constexpr int kActivationCount = 10;

double reference(Activation a, double x) {
  switch (a) {
    case Activation::none:
      return x;
    case Activation::silu:
      return x / (1 + std::exp(-x));
    case Activation::gelu:
      return x / 2 * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::gelu_tanh:
      return x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::sigmoid:
      return 1 / (1 + std::exp(-x));
    case Activation::tanh:
      return std::tanh(x);
    case Activation::relu:
      return std::max(0.0, x);
    case Activation::relu2:
      return std::max(0.0, x) * std::max(0.0, x);
    case Activation::exp:
      return std::exp(x);
    case Activation::softplus:
      return x > 20 ? x : std::log1p(std::exp(x));
  }
  return NAN;
}

}  // namespace

TEST_CASE("activate and gate apply every activation, in place too") {
  const int64_t rows = 7, channels = 37, n = rows * channels;
  each_backend([&](const Backend& backend) {
    for (int i = 0; i < kActivationCount; ++i) {
      CAPTURE(i);
      auto x = uniform(n, 1, -6, 6), factor = uniform(n, 2);
      std::vector<float> want(n), gated(n), y(n, NAN);
      for (int64_t k = 0; k < n; ++k) {
        const double a = reference(static_cast<Activation>(i), x[k]);
        const double scale = std::max(1.0, std::fabs(a));  // errors relative to values above 1
        want[k] = float(a / scale), gated[k] = float(a * factor[k] / scale);
      }
      auto scaled = [&](std::vector<float> v, const std::vector<float>& input) {
        for (int64_t k = 0; k < n; ++k)
          v[k] /= float(std::max(1.0, std::fabs(reference(static_cast<Activation>(i), input[k]))));
        return v;
      };
      const auto input = x;
      Gate gate;
      gate.x = view(factor, {rows, channels});
      gate.gate = view(x, {rows, channels});
      gate.y = view(y, {rows, channels});
      gate.activation = i;
      run(backend, gate);
      CHECK(max_error(scaled(y, input), gated) < 1e-6);
      Activate activate;
      activate.x = activate.y = view(x, {rows, channels});
      activate.activation = i;
      run(backend, activate);
      CHECK(max_error(scaled(x, input), want) < 1e-6);
    }
  });
}

TEST_CASE("add weighs its terms and repeats one row") {
  const int64_t rows = 5, channels = 19;
  each_backend([&](const Backend& backend) {
    auto a = uniform(rows * channels, 1), b = uniform(rows * channels, 2);
    std::vector<float> want(a.size()), repeated(a.size()), y(a.size(), NAN);
    for (size_t k = 0; k < a.size(); ++k) {
      want[k] = 0.5f * a[k] - 2 * b[k];
      repeated[k] = 0.5f * a[k] - 2 * b[k % channels];
    }
    Add op;
    op.alpha = 0.5f, op.beta = -2;
    op.a = view(a, {rows, channels});
    op.b = view(b, {channels});
    op.y = view(y, {rows, channels});
    run(backend, op);
    CHECK(max_error(y, repeated) < 5e-7);
    op.b = view(b, {rows, channels});
    op.y = op.a;
    run(backend, op);
    CHECK(max_error(a, want) < 5e-7);
  });
}

TEST_CASE("affine scales and shifts every channel, in place too") {
  const int64_t rows = 5, channels = 19;
  each_backend([&](const Backend& backend) {
    auto x = uniform(rows * channels, 1), scale = uniform(channels, 2), shift = uniform(channels, 3);
    std::vector<float> want(x.size()), shifted(x.size()), y(x.size(), NAN);
    for (size_t k = 0; k < x.size(); ++k) {
      want[k] = scale[k % channels] * x[k];
      shifted[k] = want[k] + shift[k % channels];
    }
    Affine op;
    op.x = view(x, {rows, channels});
    op.scale = view(scale, {channels});
    op.y = view(y, {rows, channels});
    run(backend, op);
    CHECK(max_error(y, want) < 5e-7);
    op.shift = view(shift, {channels});
    op.y = op.x;
    run(backend, op);
    CHECK(max_error(x, shifted) < 5e-7);
  });
}

TEST_CASE("gate clamps its factors where it has a limit") {
  each_backend([&](const Backend& backend) {
    std::vector<float> x = {3, -3, 0.5f}, gate = {5, -5, 0.5f}, y(3, NAN);
    Gate op;
    op.x = view(x, {1, 3});
    op.gate = view(gate, {1, 3});
    op.y = view(y, {1, 3});
    op.limit = 2;
    run(backend, op);
    CHECK(max_error(y, {4, 10, 0.25f}) < 1e-6);
  });
}

TEST_CASE("selectRows copies the rows that are asked for, in their order, and may be asked for none") {
  auto x = uniform(7 * 3, 1);
  std::vector<float> y(2 * 3, NAN);
  std::vector<int32_t> rows = {6, 1};
  SelectRows op;
  op.x = view(x, {7, 3});
  op.y = view(y, {2, 3});
  op.rows = view(rows);
  each_backend([&](const Backend& backend) {
    run(backend, op);
    CHECK(y == std::vector<float>{x[18], x[19], x[20], x[3], x[4], x[5]});
  });
  op.y.shape[0] = 0;
  op.rows.shape[0] = 0;
  each_backend([&](const Backend& backend) { CHECK_NOTHROW(run(backend, op)); });
  op.y.shape[0] = 3;
  CHECK_THROWS_AS(check(op), Error);
}
