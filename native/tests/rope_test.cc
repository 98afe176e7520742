#include "ops/rope.h"

#include <array>

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

std::vector<float> frequencies(int64_t half) {
  std::vector<float> f(half);
  for (int64_t j = 0; j < half; ++j) f[j] = 1 / std::pow(10000.f, float(j) / float(half));
  return f;
}

std::vector<float> expected(const std::vector<float>& x, const std::vector<int32_t>& positions,
                            const std::vector<float>& inv_freq, int64_t nheads, int64_t headdim, bool interleaved,
                            float mscale) {
  std::vector<float> y = x;
  const int64_t half = inv_freq.size();
  for (size_t t = 0; t < positions.size(); ++t)
    for (int64_t h = 0; h < nheads; ++h)
      for (int64_t j = 0; j < half; ++j) {
        const float angle = float(positions[t]) * inv_freq[j];
        const double c = std::cos(double(angle)) * mscale, s = std::sin(double(angle)) * mscale;
        const int64_t row = (t * nheads + h) * headdim;
        const int64_t first = row + (interleaved ? 2 * j : j), second = row + (interleaved ? 2 * j + 1 : j + half);
        y[first] = float(x[first] * c - x[second] * s);
        y[second] = float(x[second] * c + x[first] * s);
      }
  return y;
}

}  // namespace

TEST_CASE("rope rotates halves and pairs, partially, out of place and in place") {
  std::vector<int32_t> positions = {0, 1, 5, 77, 4096, 131071, 100003};
  const int64_t tokens = positions.size();
  each_backend([&](const Backend& backend) {
    for (const auto& [nheads, headdim, half] : {std::array<int64_t, 3>{3, 10, 5}, std::array<int64_t, 3>{2, 80, 40},
                                                std::array<int64_t, 3>{1, 12, 3}, std::array<int64_t, 3>{5, 7, 2}})
      for (bool interleaved : {false, true}) {
        auto x = uniform(tokens * nheads * headdim, 7), inv_freq = frequencies(half);
        const auto want = expected(x, positions, inv_freq, nheads, headdim, interleaved, 1.25f);
        std::vector<float> y(x.size(), NAN);
        Rope op;
        op.x = view(x, {tokens, nheads, headdim});
        op.y = view(y, {tokens, nheads, headdim});
        op.positions = view(positions);
        op.inv_freq = view(inv_freq, {half});
        op.interleaved = interleaved, op.mscale = 1.25f;
        run(backend, op);
        CHECK(max_error(y, want) < 5e-7);
        op.y = op.x;
        run(backend, op);
        CHECK(max_error(x, want) < 5e-7);
      }
  });
}

TEST_CASE("rope's cos and sin are those of the f32 angle, wherever it lies") {
  const int64_t tokens = 20000;
  std::vector<int32_t> positions(tokens);
  for (int64_t t = 0; t < tokens; ++t) positions[t] = int32_t(t < 10000 ? t * 13 : (t - 15000) * 214748);
  std::vector<float> x(tokens * 2), y(tokens * 2), inv_freq = {1.f};
  for (int64_t t = 0; t < tokens; ++t) x[2 * t] = 1;  // (1, 0) becomes (cos, sin)
  each_backend([&](const Backend& backend) {
    Rope op;
    op.x = view(x, {tokens, 1, 2});
    op.y = view(y, {tokens, 1, 2});
    op.positions = view(positions);
    op.inv_freq = view(inv_freq, {1});
    run(backend, op);
    int wrong = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      const double angle = float(positions[t]);
      wrong += y[2 * t] != float(std::cos(angle)) || y[2 * t + 1] != float(std::sin(angle));
    }
    CHECK(wrong == 0);
  });
}

TEST_CASE("rope without positions counts tokens") {
  auto x = uniform(6 * 4, 1), inv_freq = frequencies(2);
  std::vector<float> y(x.size());
  std::vector<int32_t> positions = {0, 1, 2, 3, 4, 5};
  Rope op;
  op.x = view(x, {6, 1, 4});
  op.y = view(y, {6, 1, 4});
  op.inv_freq = view(inv_freq, {2});
  each_backend([&](const Backend& backend) {
    run(backend, op);
    CHECK(max_error(y, expected(x, positions, inv_freq, 1, 4, false, 1)) < 5e-7);
  });
}
