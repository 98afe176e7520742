#include "ops/wkv4.h"

#include "tests/heads.h"

using namespace statespace;
using namespace statespace::test;

namespace {

// The formula in f64, the largest exponent taken out as in the op.
void reference(const Packing& p, int64_t c, const std::vector<float>& k, const std::vector<float>& v,
               const std::vector<float>& decay, const std::vector<float>& first, std::vector<float>& state,
               std::vector<float>& y) {
  each_sequence(p, [&](int64_t begin, int64_t end, int64_t slot) {
    for (int64_t i = 0; i < c; ++i) {
      float* row = &state[slot * 3 * c + i];
      double num = row[0], den = row[c], top = row[2 * c];
      for (int64_t t = begin; t < end; ++t) {
        const double kt = k[t * c + i], vt = v[t * c + i];
        double m = std::max(top, first[i] + kt);
        double old = std::exp(top - m), fresh = std::exp(first[i] + kt - m);
        y[t * c + i] = float((old * num + fresh * vt) / (old * den + fresh));
        const double w = -std::exp(double(decay[i]));
        m = std::max(top + w, kt);
        old = std::exp(top + w - m), fresh = std::exp(kt - m);
        num = old * num + fresh * vt, den = old * den + fresh, top = m;
      }
      row[0] = float(num), row[c] = float(den), row[2 * c] = float(top);
    }
  });
}

}  // namespace

TEST_CASE("wkv4: ragged sequences, fresh and carried states, keys that overflow e^k") {
  each_backend([](const Backend& backend) {
    for (const Packing& p : packings())
      for (const int64_t c : {1, 7, 16, 37})
        for (const float scale : {1.f, 300.f}) {
          CAPTURE(c);
          CAPTURE(scale);
          auto k = uniform(p.tokens() * c, 1, -scale, scale), v = uniform(p.tokens() * c, 2);
          auto decay = uniform(c, 3, -6, 3), first = uniform(c, 4);
          auto state = uniform(p.pool * 3 * c, 5, 0, 1);
          for (int64_t i = 0; i < c; ++i) {  // the first sequence is a new one
            float* row = &state[p.slots[0] * 3 * c + i];
            row[0] = row[c] = 0, row[2 * c] = -1e38f;
          }
          std::vector<float> y(p.tokens() * c, NAN), expected(y), expected_state = state;
          auto bounds = p.bounds, slots = p.slots;
          reference(p, c, k, v, decay, first, expected_state, expected);
          Wkv4 op;
          op.k = view(k, {p.tokens(), c});
          op.v = view(v, {p.tokens(), c});
          op.time_decay = view(decay, {c});
          op.time_first = view(first, {c});
          op.cu_seqlens = view(bounds);
          op.slots = view(slots);
          op.state = view(state, {p.pool, 3, c});
          op.y = view(y, {p.tokens(), c});
          run(backend, op);
          // A difference of exponents near `scale` carries its rounding.
          CHECK(max_error(y, expected) < 3e-6 * std::max(1.f, scale / 10));
          CHECK(scaled_error(state, expected_state) < 3e-6 * std::max(1.f, scale / 10));
        }
  });
}
