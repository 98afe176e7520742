#include "ops/retention_scale.h"

#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

TEST_CASE("retentionScale: sums of decays at any place, without decay and with a slow one") {
  each_backend([](const Backend& backend) {
    for (const bool given : {false, true}) {
      const int64_t T = 37, H = 4, V = 19;
      std::vector<float> log_decay = {float(std::log1p(-1.0 / 32)), 0, float(std::log1p(-0x1p-20)), -50};
      std::vector<int32_t> positions(T);
      for (int64_t t = 0; t < T; ++t) positions[t] = int32_t(t * 3571);
      auto x = uniform(T * H * V, 1);
      std::vector<float> y(T * H * V, NAN), expected(y);
      for (int64_t h = 0; h < H; ++h) {
        const double decay = std::exp(double(log_decay[h]));
        double sum = 0, power = 1;
        int64_t place = 0;
        for (int64_t t = 0; t < T; ++t) {
          for (; place <= (given ? positions[t] : t); ++place) sum += power, power *= decay;
          for (int64_t j = 0; j < V; ++j) {
            const int64_t i = (t * H + h) * V + j;
            expected[i] = float(x[i] / std::sqrt(sum));
          }
        }
      }
      RetentionScale op;
      op.x = view(x, {T, H, V});
      op.log_decay = view(log_decay, {H});
      if (given) op.positions = view(positions);
      op.y = view(y, {T, H, V});
      run(backend, op);
      CHECK(max_error(y, expected) < 1e-6);
    }
  });
}
