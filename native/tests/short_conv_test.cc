#include "ops/short_conv.h"

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const ShortConv& op, std::vector<float>& state, std::vector<float>& y) {
  const int64_t channels = op.x[1], taps = op.weight[1], kept = taps - 1;
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t c = 0; c < channels; ++c) {
      float* last = state.data() + (slot * channels + c) * kept;  // of none, where there is one tap
      std::vector<double> line(last, last + kept);
      for (int64_t t = begin; t < end; ++t) {
        line.push_back(double(op.b.row(t)[c]) * op.x.row(t)[c]);
        double sum = op.bias ? op.bias.f32()[c] : 0;
        for (int64_t j = 0; j < taps; ++j) sum += op.weight.row(c)[j] * line[line.size() - taps + j];
        y[t * channels + c] = float(op.c.row(t)[c] * sum);
      }
      for (int64_t j = 0; j < kept; ++j) last[j] = float(line[line.size() - kept + j]);
    }
  });
}

}  // namespace

TEST_CASE("shortConv: any number of taps, with and without a bias, packed sequences and their states") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const int64_t taps : {1, 2, 3, 4, 7})
        for (const int64_t channels : {1, 5, 16, 37}) {
          CAPTURE(taps);
          CAPTURE(channels);
          const int64_t T = p.tokens();
          auto b = uniform(T * channels, 1), c = uniform(T * channels, 2), x = uniform(T * channels, 3);
          auto weight = uniform(channels * taps, 4), bias = uniform(channels, 5);
          auto state = uniform(p.pool * channels * (taps - 1), 6);
          std::vector<float> y(T * channels, NAN), expected(y), expected_state = state;
          auto bounds = p.bounds, slots = p.slots;
          ShortConv op;
          op.b = view(b, {T, channels}), op.c = view(c, {T, channels}), op.x = view(x, {T, channels});
          op.weight = view(weight, {channels, taps}), op.y = view(y, {T, channels});
          if (taps % 2) op.bias = view(bias, {channels});
          op.state = view(state, {p.pool, channels, taps - 1});
          op.cu_seqlens = view(bounds), op.slots = view(slots);
          reference(p, op, expected_state, expected);
          run(backend, op);
          CHECK(scaled_error(y, expected) < 5e-6);
          CHECK(scaled_error(state, expected_state) < 5e-6);
        }
  });
}

TEST_CASE("shortConv: a state of another width is refused") {
  std::vector<float> data(100);
  ShortConv op;
  op.weight = view(data, {4, 3}), op.state = view(data, {1, 4, 3});
  CHECK_THROWS_WITH_AS(op.check(), doctest::Contains("d_conv - 1 = 2"), Error);
}
