#include "ops/join_streams.h"
#include "ops/mix_streams.h"
#include "ops/sinkhorn.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

TEST_CASE("mixStreams and joinStreams: their formulas") {
  const int64_t T = 5, n = 3, d = 19;
  each_backend([&](const Backend& backend) {
    auto x = uniform(T * n * d, 1), mix = uniform(T * n * n, 2), out = uniform(T * d, 3), gain = uniform(T * n, 4);
    std::vector<float> y(x.size(), NAN), mixed(x.size()), kept(x.size()), one(T * d, NAN), joined(T * d);
    for (int64_t t = 0; t < T; ++t)
      for (int64_t i = 0; i < d; ++i)
        for (int64_t c = 0; c < n; ++c) {
          const int64_t at = (t * n + c) * d + i;
          const double added = double(gain[t * n + c]) * out[t * d + i];
          double sum = added;
          for (int64_t j = 0; j < n; ++j) sum += double(mix[(t * n + j) * n + c]) * x[(t * n + j) * d + i];
          mixed[at] = float(sum), kept[at] = float(x[at] + added);
          joined[t * d + i] += gain[t * n + c] * x[at];
        }
    MixStreams op;
    op.x = view(x, {T, n, d});
    op.out = view(out, {T, d});
    op.gain = view(gain, {T, n});
    op.y = view(y, {T, n, d});
    run(backend, op);
    CHECK(max_error(y, kept) < 1e-6);
    op.mix = view(mix, {T, n, n});
    run(backend, op);
    CHECK(max_error(y, mixed) < 1e-6);
    JoinStreams join;
    join.x = view(x, {T, n, d});
    join.weights = view(gain, {T, n});
    join.y = view(one, {T, d});
    run(backend, join);
    CHECK(max_error(one, joined) < 1e-6);
  });
}

TEST_CASE("sinkhorn: rows and columns of a matrix in turn") {
  const int64_t T = 7, n = 4;
  each_backend([&](const Backend& backend) {
    for (const int iterations : {1, 2, 20}) {
      auto x = uniform(T * n * n, 1, -2, 2);
      std::vector<float> y(x.size(), NAN), want(x.size());
      const double eps = 1e-3;
      for (int64_t t = 0; t < T; ++t) {
        double m[4][4];
        for (int r = 0; r < n; ++r) {
          double total = 0;
          for (int c = 0; c < n; ++c) total += m[r][c] = std::exp(double(x[(t * n + r) * n + c]));
          for (int c = 0; c < n; ++c) m[r][c] = m[r][c] / total + eps;
        }
        for (int k = 0; k < 2 * iterations - 1; ++k)
          for (int i = 0; i < n; ++i) {
            double total = eps;
            for (int j = 0; j < n; ++j) total += k % 2 ? m[i][j] : m[j][i];
            for (int j = 0; j < n; ++j) (k % 2 ? m[i][j] : m[j][i]) /= total;
          }
        for (int i = 0; i < n * n; ++i) want[t * n * n + i] = float(m[i / n][i % n]);
      }
      Sinkhorn op;
      op.x = view(x, {T, n, n});
      op.y = view(y, {T, n, n});
      op.iterations = iterations, op.eps = float(eps);
      run(backend, op);
      CHECK(max_error(y, want) < 2e-6);
    }
  });
}
