#include "ops/rg_lru.h"

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

void reference(const Packing& p, const RgLru& op, std::vector<float>& state, std::vector<float>& y) {
  const int64_t width = op.input_weight[1], channels = op.x[1];
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t head = c / width, j = c % width;
      double h = state[slot * channels + c];
      const double rate = -8 * std::log1p(std::exp(double(op.recurrent_param.f32()[c])));
      for (int64_t t = begin; t < end; ++t) {
        double in = op.input_bias.f32()[c], keep = op.recurrent_bias.f32()[c];
        for (int64_t i = 0; i < width; ++i) {
          const double x = op.x.row(t)[head * width + i];
          in += x * op.input_weight.row(head)[i * width + j], keep += x * op.recurrent_weight.row(head)[i * width + j];
        }
        const double log_a = rate * sigmoid(keep), gated = sigmoid(in) * op.x.row(t)[c];
        const bool reset = op.positions && op.positions.i32()[t] == 0;
        h = reset ? gated : std::exp(log_a) * h + std::sqrt(-std::expm1(2 * log_a)) * gated;
        y[t * channels + c] = float(h);
      }
      state[slot * channels + c] = float(h);
    }
  });
}

}  // namespace

TEST_CASE("rgLru: heads of any width, resets inside a sequence, rates from almost none to all") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const auto& [heads, width] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {2, 5}, {3, 16}, {1, 70}})
        for (const bool resets : {false, true}) {
          CAPTURE(width);
          CAPTURE(resets);
          const int64_t T = p.tokens(), channels = heads * width;
          auto x = uniform(T * channels, 1, -2, 2), Wi = uniform(channels * width, 2),
               Wr = uniform(channels * width, 3);
          auto bi = uniform(channels, 4), br = uniform(channels, 5, -3, 3), rate = uniform(channels, 6, -12, 2);
          auto state = uniform(p.pool * channels, 7);
          std::vector<float> y(T * channels, NAN), expected(y), expected_state = state;
          std::vector<int32_t> positions(T);
          for (int64_t t = 0; t < T; ++t) positions[t] = t % 13;
          auto bounds = p.bounds, slots = p.slots;
          RgLru op;
          op.x = view(x, {T, channels}), op.y = view(y, {T, channels});
          op.input_weight = view(Wi, {heads, width, width}), op.recurrent_weight = view(Wr, {heads, width, width});
          op.input_bias = view(bi, {heads, width}), op.recurrent_bias = view(br, {heads, width});
          op.recurrent_param = view(rate, {channels}), op.state = view(state, {p.pool, channels});
          op.cu_seqlens = view(bounds), op.slots = view(slots);
          if (resets) op.positions = view(positions);
          reference(p, op, expected_state, expected);
          run(backend, op);
          CHECK(scaled_error(y, expected) < 5e-6);
          CHECK(scaled_error(state, expected_state) < 5e-6);
        }
  });
}

TEST_CASE("rgLru: the heads must make up the channels") {
  std::vector<float> data(100);
  RgLru op;
  op.x = view(data, {1, 7}), op.input_weight = view(data, {2, 3, 3});
  CHECK_THROWS_WITH_AS(op.check(), doctest::Contains("are not 7 channels"), Error);
}
