#include "ops/gated_delta_rule.h"

#include "core/error.h"
#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const HeadShape& n, const GatedDeltaRule& op, std::vector<float>& state,
               std::vector<float>& y) {
  const int64_t share = n.nheads / op.k[1];
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t h = 0; h < n.nheads; ++h)
      for (int64_t j = 0; j < n.value; ++j) {
        float* rows = &state[(slot * n.nheads + h) * n.key * n.value + j];
        std::vector<double> S(n.key);
        for (int64_t i = 0; i < n.key; ++i) S[i] = rows[i * n.value];
        for (int64_t t = begin; t < end; ++t) {
          const float *q = op.q.row(t) + h / share * n.key, *k = op.k.row(t) + h / share * n.key;
          double held = 0, sum = 0;
          for (int64_t i = 0; i < n.key; ++i) {
            if (op.g) S[i] *= std::exp(double(op.g.row(t)[op.decays_by_key() ? h * n.key + i : h]));
            held += S[i] * k[i];
          }
          const double change = op.beta.row(t)[h] * (op.v.row(t)[h * n.value + j] - held);
          for (int64_t i = 0; i < n.key; ++i) S[i] += k[i] * change, sum += S[i] * q[i];
          y[(t * n.nheads + h) * n.value + j] = float(sum / std::sqrt(double(n.key)));
        }
        for (int64_t i = 0; i < n.key; ++i) rows[i * n.value] = float(S[i]);
      }
  });
}

}  // namespace

TEST_CASE("gatedDeltaRule: both modes, a decay per head, per key or none, shared key heads, extreme decays") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const HeadShape& n : head_shapes())
        for (const float strongest : {-1e-3f, -2.f, -2000.f})
          for (const int kind : {0, 1, 2, 3, 4, 5}) {
            const int mode = kind % 2, decays = kind / 2;  // per head, per key, none
            CAPTURE(n.key);
            CAPTURE(n.value);
            CAPTURE(strongest);
            CAPTURE(mode);
            CAPTURE(decays);
            const int64_t T = p.tokens(), H = n.nheads, key_heads = H % 2 == 0 ? H / 2 : H;
            auto q = uniform(T * key_heads * n.key, 1), k = uniform(T * key_heads * n.key, 2);
            auto v = uniform(T * H * n.value, 3);
            auto g = uniform(T * H * n.key, 4, strongest, 0), beta = uniform(T * H, 5, 0, 1);
            for (size_t i = 0; i < g.size(); i += 3) g[i] = -1e-3f;
            for (int64_t head = 0; head < T * key_heads; ++head) {
              double squares = 1e-9;
              for (int64_t i = 0; i < n.key; ++i) squares += double(k[head * n.key + i]) * k[head * n.key + i];
              for (int64_t i = 0; i < n.key; ++i) k[head * n.key + i] /= float(std::sqrt(squares));
            }
            auto state = uniform(p.pool * H * n.key * n.value, 7);
            std::vector<float> y(T * H * n.value, NAN), expected(y), expected_state = state;
            auto bounds = p.bounds, slots = p.slots;
            GatedDeltaRule op;
            op.q = view(q, {T, key_heads, n.key});
            op.k = view(k, {T, key_heads, n.key});
            op.v = view(v, {T, H, n.value});
            if (decays == 0) op.g = view(g, {T, H});
            if (decays == 1) op.g = view(g, {T, H, n.key});
            op.beta = view(beta, {T, H});
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

TEST_CASE("gatedDeltaRule: nheads must be a multiple of nheads_k") {
  std::vector<float> data(100);
  GatedDeltaRule op;
  op.q = op.k = view(data, {1, 2, 4});
  op.v = op.y = view(data, {1, 3, 4});
  op.g = op.beta = view(data, {1, 3});
  op.state = view(data, {1, 3, 4, 4});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("no multiple of nheads_k 2"), Error);
}
