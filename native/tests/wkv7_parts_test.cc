#include "ops/wkv7_bonus.h"
#include "ops/wkv7_keys.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

TEST_CASE("wkv7Keys: its formula, zero and tiny keys included") {
  each_backend([](const Backend& backend) {
    for (const HeadShape& n : head_shapes()) {
      const int64_t T = 9, H = n.nheads, K = n.key, row = H * K;
      auto k = uniform(T * row, 1, -3, 3), a = uniform(T * row, 2, 0, 1), kk = uniform(row, 3), ka = uniform(row, 4);
      for (int64_t i = 0; i < row; ++i) k[i] = 0, k[row + i] *= 1e-15f;
      std::vector<float> y(T * 3 * row, NAN), expected(y);
      for (int64_t t = 0; t < T; ++t)
        for (int64_t h = 0; h < H; ++h) {
          const int64_t at = t * row + h * K;
          double squares = 0;
          for (int64_t i = 0; i < K; ++i) squares += std::pow(double(k[at + i]) * kk[h * K + i], 2);
          for (int64_t i = 0; i < K; ++i) {
            const double kappa = double(k[at + i]) * kk[h * K + i] / std::max(std::sqrt(squares), 1e-12);
            float* out = &expected[t * 3 * row + h * K + i];
            out[0] = float(k[at + i] * (1 + (double(a[at + i]) - 1) * ka[h * K + i]));
            out[row] = float(-kappa);
            out[2 * row] = float(kappa * a[at + i]);
          }
        }
      Wkv7Keys op;
      op.k = view(k, {T, H, K});
      op.a = view(a, {T, H, K});
      op.kk = view(kk, {H, K});
      op.ka = view(ka, {H, K});
      op.y = view(y, {T, 3, H, K});
      run(backend, op);
      CHECK(max_error(y, expected) < 1e-6);
    }
  });
}

TEST_CASE("wkv7Bonus: its formula") {
  each_backend([](const Backend& backend) {
    for (const HeadShape& n : head_shapes()) {
      const int64_t T = 9, H = n.nheads;
      auto x = uniform(T * H * n.value, 1), r = uniform(T * H * n.key, 2), k = uniform(T * H * n.key, 3),
           v = uniform(T * H * n.value, 4), u = uniform(H * n.key, 5);
      std::vector<float> y(T * H * n.value, NAN), expected(y);
      for (int64_t i = 0; i < T * H; ++i) {
        double weight = 0;
        for (int64_t j = 0; j < n.key; ++j)
          weight += double(r[i * n.key + j]) * k[i * n.key + j] * u[i % H * n.key + j];
        for (int64_t j = 0; j < n.value; ++j)
          expected[i * n.value + j] = float(x[i * n.value + j] + weight * v[i * n.value + j]);
      }
      Wkv7Bonus op;
      op.x = view(x, {T, H, n.value});
      op.r = view(r, {T, H, n.key});
      op.k = view(k, {T, H, n.key});
      op.v = view(v, {T, H, n.value});
      op.u = view(u, {H, n.key});
      op.y = view(y, {T, H, n.value});
      run(backend, op);
      CHECK(max_error(y, expected) < 1e-5);
    }
  });
}
