#include "ops/wkv7.h"

#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

void reference(const Packing& p, const HeadShape& n, const Wkv7& op, std::vector<float>& state, std::vector<float>& y) {
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t h = 0; h < n.nheads; ++h)
      for (int64_t j = 0; j < n.value; ++j) {
        float* row = &state[((slot * n.nheads + h) * n.value + j) * n.key];
        std::vector<double> S(row, row + n.key);
        for (int64_t t = begin; t < end; ++t) {
          const int64_t at = h * n.key;
          double along = 0, sum = 0;
          for (int64_t i = 0; i < n.key; ++i) along += S[i] * op.a.row(t)[at + i];
          for (int64_t i = 0; i < n.key; ++i) {
            S[i] = S[i] * std::exp(double(op.w.row(t)[at + i])) + along * op.b.row(t)[at + i] +
                   double(op.v.row(t)[h * n.value + j]) * op.k.row(t)[at + i];
            sum += S[i] * op.r.row(t)[at + i];
          }
          y[(t * n.nheads + h) * n.value + j] = float(sum);
        }
        std::copy(S.begin(), S.end(), row);
      }
  });
}

}  // namespace

TEST_CASE("wkv7: both modes, from almost no decay to an extreme one") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const HeadShape& n : head_shapes())
        for (const float strongest : {-1e-3f, -0.6f, -2000.f})
          for (const int mode : {0, 1}) {
            CAPTURE(n.key);
            CAPTURE(n.value);
            CAPTURE(strongest);
            CAPTURE(mode);
            const int64_t T = p.tokens(), H = n.nheads;
            auto r = uniform(T * H * n.key, 1), k = uniform(T * H * n.key, 2), v = uniform(T * H * n.value, 3);
            auto w = uniform(T * H * n.key, 4, strongest, 0), a = uniform(T * H * n.key, 5), b = a;
            for (size_t i = 0; i < w.size(); i += 3) w[i] = -1e-3f;  // weak ones among them
            // As RWKV-7 has them: a of unit length, b = -a times a gate.
            const auto gate = uniform(T * H * n.key, 6, 0, 1);
            for (int64_t head = 0; head < T * H; ++head) {
              double squares = 0;
              for (int64_t i = 0; i < n.key; ++i) squares += double(a[head * n.key + i]) * a[head * n.key + i];
              for (int64_t i = head * n.key; i < (head + 1) * n.key; ++i)
                a[i] = float(a[i] / std::sqrt(squares + 1e-9)), b[i] = -a[i] * gate[i];
            }
            auto state = uniform(p.pool * H * n.key * n.value, 7);
            std::vector<float> y(T * H * n.value, NAN), expected(y), expected_state = state;
            auto bounds = p.bounds, slots = p.slots;
            Wkv7 op;
            op.r = view(r, {T, H, n.key});
            op.w = view(w, {T, H, n.key});
            op.k = view(k, {T, H, n.key});
            op.v = view(v, {T, H, n.value});
            op.a = view(a, {T, H, n.key});
            op.b = view(b, {T, H, n.key});
            op.cu_seqlens = view(bounds);
            op.slots = view(slots);
            op.state = view(state, {p.pool, H, n.value, n.key});
            op.y = view(y, {T, H, n.value});
            op.mode = mode;
            reference(p, n, op, expected_state, expected);
            run(backend, op);
            CHECK(scaled_error(y, expected) < 5e-6);
            CHECK(scaled_error(state, expected_state) < 5e-6);
          }
  });
}
