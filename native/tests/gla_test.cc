#include "ops/gla.h"

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const HeadShape& n, const Gla& op, std::vector<float>& state, std::vector<float>& y) {
  const int64_t share = n.nheads / op.k[1];
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t h = 0; h < n.nheads; ++h)
      for (int64_t j = 0; j < n.value; ++j) {
        float* rows = &state[(slot * n.nheads + h) * n.key * n.value + j];
        std::vector<double> S(n.key);
        for (int64_t i = 0; i < n.key; ++i) S[i] = rows[i * n.value];
        for (int64_t t = begin; t < end; ++t) {
          const int64_t at = h / share * n.key;
          const double v = op.v.row(t)[h / share * n.value + j];
          double sum = 0;
          for (int64_t i = 0; i < n.key; ++i) {
            S[i] = std::exp(double(op.g.row(t)[at + i])) * S[i] + op.k.row(t)[at + i] * v;
            sum += S[i] * op.q.row(t)[h * n.key + i];
          }
          y[(t * n.nheads + h) * n.value + j] = float(sum / std::sqrt(double(n.key)));
        }
        for (int64_t i = 0; i < n.key; ++i) rows[i * n.value] = float(S[i]);
      }
  });
}

}  // namespace

TEST_CASE("gla: both modes, shared heads of keys and values, from almost no decay to a reset") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const HeadShape& n : head_shapes())
        for (const float strongest : {-1e-3f, -2.f, -2000.f})
          for (const int mode : {0, 1}) {
            CAPTURE(n.key);
            CAPTURE(n.value);
            CAPTURE(strongest);
            CAPTURE(mode);
            const int64_t T = p.tokens(), H = n.nheads, heads_kv = H % 2 == 0 ? H / 2 : H;
            auto q = uniform(T * H * n.key, 1), k = uniform(T * heads_kv * n.key, 2);
            auto v = uniform(T * heads_kv * n.value, 3), g = uniform(T * heads_kv * n.key, 4, strongest, 0);
            for (size_t i = 0; i < g.size(); i += 3) g[i] = i % 2 ? -1e-3f : strongest < -100 ? -INFINITY : 0;
            auto state = uniform(p.pool * H * n.key * n.value, 7);
            std::vector<float> y(T * H * n.value, NAN), expected(y), expected_state = state;
            auto bounds = p.bounds, slots = p.slots;
            Gla op;
            op.q = view(q, {T, H, n.key});
            op.k = view(k, {T, heads_kv, n.key});
            op.v = view(v, {T, heads_kv, n.value});
            op.g = view(g, {T, heads_kv, n.key});
            op.cu_seqlens = view(bounds);
            op.slots = view(slots);
            op.state = view(state, {p.pool, H, n.key, n.value});
            op.y = view(y, {T, H, n.value});
            op.mode = mode;
            reference(p, n, op, expected_state, expected);
            run(backend, op);
            CHECK(scaled_error(y, expected) < 5e-6);
            CHECK(scaled_error(state, expected_state) < 5e-6);
          }
  });
}

TEST_CASE("gla: nheads must be a multiple of nheads_kv") {
  std::vector<float> data(100);
  Gla op;
  op.q = op.y = view(data, {1, 3, 4});
  op.k = op.g = op.v = view(data, {1, 2, 4});
  op.state = view(data, {1, 3, 4, 4});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("no multiple of nheads_kv 2"), Error);
}
