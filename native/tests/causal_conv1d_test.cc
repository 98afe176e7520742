#include "ops/causal_conv1d.h"

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

// Shapes of one case; x is read from rows of `stride` values, sequence s uses row slots[s] of the pool.
struct Case {
  int64_t channels, d_conv, stride;
  std::vector<int32_t> bounds, slots;
  bool bias, silu;
};

struct Result {
  std::vector<float> y, state;
};

// The formula, sequence by sequence, in f64.
Result expected(const Case& c, const std::vector<float>& x, const std::vector<float>& weight,
                const std::vector<float>& bias, const std::vector<float>& state) {
  const int64_t past = c.d_conv - 1, tokens = c.bounds.back();
  Result r{std::vector<float>(tokens * c.channels), state};
  for (size_t s = 0; s + 1 < c.bounds.size(); ++s)
    for (int64_t d = 0; d < c.channels; ++d) {
      std::vector<float> inputs(&state[(c.slots[s] * c.channels + d) * past],
                                &state[(c.slots[s] * c.channels + d) * past] + past);
      for (int64_t t = c.bounds[s]; t < c.bounds[s + 1]; ++t) {
        inputs.push_back(x[t * c.stride + d]);
        double y = c.bias ? bias[d] : 0;
        for (int64_t j = 0; j < c.d_conv; ++j)
          y += double(weight[d * c.d_conv + j]) * inputs[inputs.size() - c.d_conv + j];
        r.y[t * c.channels + d] = float(c.silu ? y / (1 + std::exp(-y)) : y);
      }
      std::copy(inputs.end() - past, inputs.end(), &r.state[(c.slots[s] * c.channels + d) * past]);
    }
  return r;
}

Result actual(const Backend& backend, const Case& c, std::vector<float> x, std::vector<float> weight,
              std::vector<float> bias, std::vector<float> state, ThreadPool& pool) {
  const int64_t tokens = c.bounds.back(), rows = state.size() / std::max<int64_t>(1, c.channels * (c.d_conv - 1));
  std::vector<float> y(tokens * c.channels, NAN);
  std::vector<int32_t> bounds = c.bounds, slots = c.slots;
  CausalConv1d op;
  op.x = view(x, {tokens, c.channels});
  op.x.row_stride = c.stride;
  op.weight = view(weight, {c.channels, c.d_conv});
  if (c.bias) op.bias = view(bias, {c.channels});
  op.cu_seqlens = view(bounds);
  op.slots = view(slots);
  op.state = view(state, {rows, c.channels, c.d_conv - 1});
  op.y = view(y, {tokens, c.channels});
  op.activation = c.silu;
  run(backend, op, pool);
  state.resize(rows * c.channels * (c.d_conv - 1));
  return {y, state};
}

}  // namespace

TEST_CASE("causalConv1d equals its formula on packed sequences of any length") {
  const std::vector<int32_t> ragged = {0, 1, 1, 3, 8, 150, 152}, order = {3, 0, 6, 1, 5, 2};
  for (int64_t d_conv : {1, 2, 3, 4, 5, 9})
    for (int64_t channels : {1, 7, 64, 300})
      for (bool silu : {false, true}) {
        CAPTURE(d_conv);
        CAPTURE(channels);
        const Case c{channels, d_conv, 2 * channels + 3, ragged, order, d_conv % 2 == 0, silu};
        const auto x = uniform(152 * c.stride, 1), weight = uniform(channels * d_conv, 2), bias = uniform(channels, 3);
        const auto state = uniform(std::max<int64_t>(1, 7 * channels * (d_conv - 1)), 4);
        const Result want = expected(c, x, weight, bias, state);
        each_backend([&](const Backend& backend) {
          const Result got = actual(backend, c, x, weight, bias, state, ThreadPool::global());
          CHECK(max_error(got.y, want.y) < 2e-6);
          if (d_conv > 1) CHECK(got.state == want.state);
        });
      }
}

TEST_CASE("causalConv1d steps and whole sequences agree bit for bit, whatever the threads") {
  const int64_t channels = 40, d_conv = 4, tokens = 70;
  const auto x = uniform(tokens * channels, 5), weight = uniform(channels * d_conv, 6), bias = uniform(channels, 7);
  const auto start = uniform(channels * (d_conv - 1), 8);
  each_backend([&](const Backend& backend) {
    ThreadPool one(1), three(3);
    const Case whole{channels, d_conv, channels, {0, int32_t(tokens)}, {0}, true, true};
    const Result at_once = actual(backend, whole, x, weight, bias, start, one);
    CHECK(actual(backend, whole, x, weight, bias, start, three).y == at_once.y);
    const Case step{channels, d_conv, channels, {0, 1}, {0}, true, true};
    std::vector<float> state = start, y;
    for (int64_t t = 0; t < tokens; ++t) {
      const std::vector<float> token(&x[t * channels], &x[t * channels] + channels);
      const Result r = actual(backend, step, token, weight, bias, state, one);
      state = r.state;
      y.insert(y.end(), r.y.begin(), r.y.end());
    }
    CHECK(y == at_once.y);
    CHECK(state == at_once.state);
  });
}

TEST_CASE("causalConv1d steps sequences together as each alone, bit for bit") {
  const int64_t channels = 300, d_conv = 4, sequences = 5;
  const auto x = uniform(sequences * channels, 9), weight = uniform(channels * d_conv, 10),
             bias = uniform(channels, 11);
  const auto state = uniform(sequences * channels * (d_conv - 1), 12);
  each_backend([&](const Backend& backend) {
    const Case all{channels, d_conv, channels, {0, 1, 2, 3, 4, 5}, {0, 1, 2, 3, 4}, true, true};
    const Result together = actual(backend, all, x, weight, bias, state, ThreadPool::global());
    for (int32_t s = 0; s < sequences; ++s) {
      const std::vector<float> token(&x[s * channels], &x[s * channels] + channels);
      const Result alone = actual(backend, {channels, d_conv, channels, {0, 1}, {s}, true, true}, token, weight, bias,
                                  state, ThreadPool::global());
      CHECK(std::equal(alone.y.begin(), alone.y.end(), &together.y[s * channels]));
      CHECK(std::equal(&alone.state[s * channels * 3], &alone.state[s * channels * 3] + channels * 3,
                       &together.state[s * channels * 3]));
    }
  });
}

TEST_CASE("causalConv1d names a state of the wrong width") {
  std::vector<float> data(64);
  CausalConv1d op;
  op.x = view(data, {2, 4});
  op.weight = view(data, {4, 4});
  op.state = view(data, {1, 4, 4});
  op.y = view(data, {2, 4});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("d_conv - 1 = 3"), Error);
}
