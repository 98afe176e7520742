#include "ops/retention.h"

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const HeadShape& n, const Retention& op, std::vector<float>& state,
               std::vector<float>& y) {
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t h = 0; h < n.nheads; ++h)
      for (int64_t j = 0; j < n.value; ++j) {
        const double gamma = std::exp(double(op.log_decay.f32()[h]));
        float* rows = &state[(slot * n.nheads + h) * n.key * n.value + j];
        std::vector<double> S(n.key);
        for (int64_t i = 0; i < n.key; ++i) S[i] = rows[i * n.value];
        for (int64_t t = begin; t < end; ++t) {
          double sum = 0;
          for (int64_t i = 0; i < n.key; ++i) {
            S[i] = gamma * S[i] + double(op.k.row(t)[h * n.key + i]) * op.v.row(t)[h * n.value + j];
            sum += S[i] * op.q.row(t)[h * n.key + i];
          }
          y[(t * n.nheads + h) * n.value + j] = float(sum / std::sqrt(double(n.key)));
        }
        for (int64_t i = 0; i < n.key; ++i) rows[i * n.value] = float(S[i]);
      }
  });
}

}  // namespace

TEST_CASE("retention: all modes and chunk sizes are one function") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const HeadShape& n : head_shapes())
        for (const float strongest : {0.f, -0.03f, -50.f})
          for (const auto& [mode, chunk] : {std::pair{1, 64}, {2, 64}, {0, 1}, {0, 7}, {0, 16}, {0, 64}, {0, 100000}}) {
            CAPTURE(n.key);
            CAPTURE(n.value);
            CAPTURE(strongest);
            CAPTURE(mode);
            CAPTURE(chunk);
            const int64_t T = p.tokens(), H = n.nheads;
            auto q = uniform(T * H * n.key, 1), k = uniform(T * H * n.key, 2), v = uniform(T * H * n.value, 3);
            auto log_decay = uniform(H, 4, strongest, 0);
            auto state = uniform(p.pool * H * n.key * n.value, 7);
            std::vector<float> y(T * H * n.value, NAN), expected(y), expected_state = state;
            auto bounds = p.bounds, slots = p.slots;
            Retention op;
            op.q = view(q, {T, H, n.key});
            op.k = view(k, {T, H, n.key});
            op.v = view(v, {T, H, n.value});
            op.log_decay = view(log_decay, {H});
            op.cu_seqlens = view(bounds);
            op.slots = view(slots);
            op.state = view(state, {p.pool, H, n.key, n.value});
            op.y = view(y, {T, H, n.value});
            op.mode = mode;
            op.chunk_size = chunk;
            reference(p, n, op, expected_state, expected);
            run(backend, op);
            CHECK(scaled_error(y, expected) < 5e-6);
            CHECK(scaled_error(state, expected_state) < 5e-6);
          }
  });
}

TEST_CASE("retention: a chunk holds a token at least") {
  std::vector<float> data(100);
  Retention op;
  op.q = op.k = op.v = op.y = view(data, {1, 2, 4});
  op.log_decay = view(data, {2});
  op.state = view(data, {1, 2, 4, 4});
  op.chunk_size = 0;
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("at least 1, received 0"), Error);
}
