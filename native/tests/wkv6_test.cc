#include "ops/wkv6.h"

#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const HeadShape& n, const Wkv6& op, std::vector<float>& state, std::vector<float>& y) {
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t h = 0; h < n.nheads; ++h)
      for (int64_t j = 0; j < n.value; ++j) {
        std::vector<double> S(n.key);
        float* rows = &state[(slot * n.nheads + h) * n.key * n.value + j];
        for (int64_t i = 0; i < n.key; ++i) S[i] = rows[i * n.value];
        for (int64_t t = begin; t < end; ++t) {
          const double v = op.v.row(t)[h * n.value + j];
          double sum = 0;
          for (int64_t i = 0; i < n.key; ++i) {
            const int64_t at = h * n.key + i;
            const double kv = op.k.row(t)[at] * v;
            const double w = op.w.rank == 3 ? op.w.row(t)[at] : op.w.f32()[at];
            sum += op.r.row(t)[at] * (S[i] + op.u.f32()[at] * kv);
            S[i] = std::exp(w) * S[i] + kv;
          }
          y[(t * n.nheads + h) * n.value + j] = float(sum);
        }
        for (int64_t i = 0; i < n.key; ++i) rows[i * n.value] = float(S[i]);
      }
  });
}

}  // namespace

TEST_CASE("wkv6: both modes, fixed and varying decay, from none to extreme") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const HeadShape& n : head_shapes())
        for (const float strongest : {-1e-3f, -3.f, -2000.f})
          for (const bool varies : {false, true})
            for (const int mode : {0, 1}) {
              CAPTURE(n.key);
              CAPTURE(n.value);
              CAPTURE(strongest);
              CAPTURE(mode);
              const int64_t T = p.tokens(), H = n.nheads;
              auto r = uniform(T * H * n.key, 1), k = uniform(T * H * n.key, 2), v = uniform(T * H * n.value, 3);
              auto w = uniform(T * H * n.key, 4, strongest, 0), u = uniform(H * n.key, 5);
              for (size_t i = 0; i < w.size(); i += 3) w[i] = -1e-3f;  // weak ones among them
              auto state = uniform(p.pool * H * n.key * n.value, 6);
              std::vector<float> y(T * H * n.value, NAN), expected(y), expected_state = state;
              auto bounds = p.bounds, slots = p.slots;
              Wkv6 op;
              op.r = view(r, {T, H, n.key});
              op.k = view(k, {T, H, n.key});
              op.v = view(v, {T, H, n.value});
              op.w = varies ? view(w, {T, H, n.key}) : view(w, {H, n.key});
              op.u = view(u, {H, n.key});
              op.cu_seqlens = view(bounds);
              op.slots = view(slots);
              op.state = view(state, {p.pool, H, n.key, n.value});
              op.y = view(y, {T, H, n.value});
              op.mode = mode;
              reference(p, n, op, expected_state, expected);
              run(backend, op);
              CHECK(scaled_error(y, expected) < 3e-6);
              CHECK(scaled_error(state, expected_state) < 3e-6);
            }
  });
}
