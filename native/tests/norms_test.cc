#include "ops/layer_norm.h"
#include "ops/rms_norm.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

double silu(double x) { return x / (1 + std::exp(-x)); }

struct Case {
  int64_t rows, channels, group;
  bool weight, bias, z, before, offset;
};

std::vector<float> expected_rms(const Case& c, const std::vector<float>& x, const std::vector<float>& w,
                                const std::vector<float>& b, const std::vector<float>& z, float eps) {
  std::vector<float> y(x.size());
  const int64_t group = c.group ? c.group : c.channels;
  for (int64_t i = 0; i < c.rows * c.channels; i += group) {
    double squares = 0;
    auto value = [&](int64_t k) { return c.z && !c.before ? x[k] * silu(z[k]) : double(x[k]); };
    for (int64_t k = i; k < i + group; ++k) squares += value(k) * value(k);
    for (int64_t k = i; k < i + group; ++k) {
      double v = value(k) / std::sqrt(squares / group + eps);
      if (c.weight) v *= w[k % c.channels] + double(c.offset);
      if (c.bias) v += b[k % c.channels];
      y[k] = float(c.z && c.before ? v * silu(z[k]) : v);
    }
  }
  return y;
}

std::vector<float> expected_layer(const Case& c, const std::vector<float>& x, const std::vector<float>& w,
                                  const std::vector<float>& b, float eps) {
  std::vector<float> y(x.size());
  const int64_t group = c.group ? c.group : c.channels;
  for (int64_t i = 0; i < c.rows * c.channels; i += group) {
    double mean = 0, variance = 0;
    for (int64_t k = i; k < i + group; ++k) mean += x[k] / double(group);
    for (int64_t k = i; k < i + group; ++k) variance += (x[k] - mean) * (x[k] - mean) / double(group);
    for (int64_t k = i; k < i + group; ++k) {
      double v = (x[k] - mean) / std::sqrt(variance + eps);
      if (c.weight) v *= w[k % c.channels];
      if (c.bias) v += b[k % c.channels];
      y[k] = float(v);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("rmsNorm is its formula, gated and grouped, out of place and in place") {
  const Case cases[] = {
      {3, 17, 0, true, false, false, false, false}, {5, 24, 6, true, true, true, true, false},
      {4, 24, 8, true, false, true, false, false},  {1, 1, 0, false, false, false, false, false},
      {2, 33, 11, true, true, true, false, true},   {700, 40, 0, true, false, false, false, true},
      {0, 16, 0, true, false, false, false, false},
  };
  each_backend([&](const Backend& backend) {
    for (const Case& c : cases) {
      const size_t n = c.rows * c.channels;
      auto x = uniform(n, 1, -3, 3), z = uniform(n, 2, -4, 4), w = uniform(c.channels, 3), b = uniform(c.channels, 4);
      const auto want = expected_rms(c, x, w, b, z, 1e-5f);
      std::vector<float> y(n, NAN);
      RmsNorm op;
      op.x = view(x, {c.rows, c.channels});
      op.y = view(y, {c.rows, c.channels});
      if (c.weight) op.weight = view(w, {c.channels});
      if (c.bias) op.bias = view(b, {c.channels});
      if (c.z) op.z = view(z, {c.rows, c.channels});
      op.group_size = c.group, op.norm_before_gate = c.before, op.unit_offset = c.offset;
      if (c.rows == 0) op.x.data = op.y.data = w.data();
      run(backend, op);
      CHECK(max_error(y, want) < 3e-6);
      op.y = op.x;
      run(backend, op);
      CHECK(max_error(x, want) < 3e-6);
    }
  });
}

TEST_CASE("layerNorm is its formula, over groups, with strided rows, and keeps its accuracy beside a large mean") {
  each_backend([&](const Backend& backend) {
    for (const Case& c :
         {Case{3, 17, 0, true, true, false, false, false}, Case{6, 32, 8, true, true, false, false, false},
          Case{500, 40, 5, false, false, false, false, false}}) {
      const int64_t stride = c.channels + 3;
      auto x = uniform(c.rows * c.channels, 1, -3, 3), w = uniform(c.channels, 3), b = uniform(c.channels, 4);
      std::vector<float> wide(c.rows * stride, NAN), y(x.size(), NAN);
      for (int64_t i = 0; i < c.rows; ++i) std::copy_n(&x[i * c.channels], c.channels, &wide[i * stride]);
      LayerNorm op;
      op.x = view(wide, {c.rows, c.channels});
      op.x.row_stride = stride;
      op.y = view(y, {c.rows, c.channels});
      if (c.weight) op.weight = view(w, {c.channels});
      if (c.bias) op.bias = view(b, {c.channels});
      op.group_size = c.group;
      run(backend, op);
      CHECK(max_error(y, expected_layer(c, x, w, b, op.eps)) < 3e-6);
    }
    const Case c{1, 37, 0, false, false, false, false, false};
    auto x = uniform(37, 5, 4095, 4097);
    std::vector<float> y(37);
    LayerNorm op;
    op.x = view(x, {1, 37});
    op.y = view(y, {1, 37});
    run(backend, op);
    CHECK(max_error(y, expected_layer(c, x, {}, {}, op.eps)) < 2e-3);  // 4096 has an ulp of 5e-4
  });
}

TEST_CASE("a groupSize that does not divide the channels is refused") {
  std::vector<float> x(10);
  RmsNorm op;
  op.x = op.y = view(x, {2, 5});
  op.group_size = 2;
  CHECK_THROWS_WITH_AS(check(op), "rmsNorm: 5 channels are no multiple of groupSize 2", Error);
}
