#include "ops/moe.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "ops/expert_weights.h"
#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

struct Case {
  int64_t tokens, d_model, d_ff, experts, top_k;
  bool renormalize;
};

// The formula, in f64.
std::vector<float> reference(const Case& c, const std::vector<float>& x, const std::vector<float>& router,
                             const std::vector<float>& gate_up, const std::vector<float>& down) {
  std::vector<float> y(c.tokens * c.d_model);
  for (int64_t t = 0; t < c.tokens; ++t) {
    auto product = [&](const float* row, const auto* in, int64_t n) {
      double s = 0;
      for (int64_t i = 0; i < n; ++i) s += double(row[i]) * in[i];
      return s;
    };
    const float* xt = &x[t * c.d_model];
    std::vector<double> p(c.experts);
    for (int64_t e = 0; e < c.experts; ++e) p[e] = std::exp(product(&router[e * c.d_model], xt, c.d_model));
    const double all = std::accumulate(p.begin(), p.end(), 0.0);
    for (auto& v : p) v /= all;
    std::vector<int> order(c.experts);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return p[a] > p[b]; });
    double kept = 0;
    for (int64_t k = 0; k < c.top_k; ++k) kept += p[order[k]];
    std::vector<double> sum(c.d_model);
    for (int64_t k = 0; k < c.top_k; ++k) {
      const int e = order[k];
      const float* w = &gate_up[e * 2 * c.d_ff * c.d_model];
      std::vector<double> h(c.d_ff);
      for (int64_t f = 0; f < c.d_ff; ++f) {
        const double g = product(w + f * c.d_model, xt, c.d_model);
        h[f] = g / (1 + std::exp(-g)) * product(w + (c.d_ff + f) * c.d_model, xt, c.d_model);
      }
      for (int64_t o = 0; o < c.d_model; ++o)
        sum[o] += p[e] / (c.renormalize ? kept : 1) * product(&down[(e * c.d_model + o) * c.d_ff], h.data(), c.d_ff);
    }
    for (int64_t o = 0; o < c.d_model; ++o) y[t * c.d_model + o] = float(sum[o]);
  }
  return y;
}

std::vector<uint16_t> to_bf16(std::vector<float>& values) {
  std::vector<uint16_t> out(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    uint32_t u;
    std::memcpy(&u, &values[i], 4);
    out[i] = uint16_t(u >> 16);
    u &= 0xffff0000;
    std::memcpy(&values[i], &u, 4);
  }
  return out;
}

}  // namespace

TEST_CASE("moe: routes to the top experts") {
  each_backend([](const Backend& backend) {
    for (const Case& c : {Case{1, 8, 6, 3, 1, false}, Case{9, 37, 21, 5, 2, true}, Case{5, 64, 40, 4, 4, false},
                          Case{70, 48, 16, 40, 6, true}, Case{0, 8, 8, 2, 1, false}, Case{3, 5, 7, 1, 1, true}}) {
      CAPTURE(c.tokens);
      auto x = uniform(c.tokens * c.d_model, 1), router = uniform(c.experts * c.d_model, 2);
      auto gate_up = uniform(c.experts * 2 * c.d_ff * c.d_model, 3), down = uniform(c.experts * c.d_model * c.d_ff, 4);
      std::vector<float> y(std::max<size_t>(1, x.size()), NAN);
      x.resize(y.size());
      Moe op;
      op.x = view(x, {c.tokens, c.d_model});
      op.router = view(router, {c.experts, c.d_model});
      op.gate_up = view(gate_up, {c.experts, 2, c.d_ff, c.d_model});
      op.down = view(down, {c.experts, c.d_model, c.d_ff});
      op.y = view(y, {c.tokens, c.d_model});
      op.top_k = c.top_k;
      op.renormalize = c.renormalize;
      auto expected = reference(c, x, router, gate_up, down);
      run(backend, op);
      y.resize(expected.size());
      CHECK(max_error(y, expected) < 2e-5);

      auto router16 = to_bf16(router), gate_up16 = to_bf16(gate_up), down16 = to_bf16(down);
      op.router.data = router16.data(), op.gate_up.data = gate_up16.data(), op.down.data = down16.data();
      op.router.dtype = op.gate_up.dtype = op.down.dtype = DType::bf16;
      expected = reference(c, x, router, gate_up, down);
      y.resize(std::max<size_t>(1, y.size()));
      op.y.data = y.data();
      run(backend, op);
      y.resize(expected.size());
      // Where the machine multiplies pairs of bf16, x is rounded to bf16 too; so it is on a device's tensor cores.
      const std::string name = backend.name;
      const bool rounds = name == "avx512" || name == "amx" || !backend.host_memory;
      CHECK(relative_error(y, expected) < (rounds ? 1e-2 : 1e-5));
    }
  });
}

TEST_CASE("moe: equal experts are taken in order, and nothing breaks on NaN") {
  each_backend([](const Backend& backend) {
    const int64_t experts = 4, d = 3;
    std::vector<float> x = {1, 2, 3, NAN, 0, 1}, router(experts * d, 0.f), y(6);
    // Expert e gives silu(sum x) · sum x · (e + 1) in every output.
    std::vector<float> gate_up(experts * 2 * d, 1.f), down;
    for (int e = 0; e < experts; ++e) down.insert(down.end(), d, float(e + 1));
    Moe op;
    op.x = view(x, {2, d});
    op.router = view(router, {experts, d});
    op.gate_up = view(gate_up, {experts, 2, 1, d});
    op.down = view(down, {experts, d, 1});
    op.y = view(y, {2, d});
    op.top_k = 2;
    run(backend, op);
    const double h = 6 / (1 + std::exp(-6.0)) * 6;
    CHECK(y[0] == doctest::Approx(0.25 * h * (1 + 2)).epsilon(1e-5));
    CHECK(std::isnan(y[3]));
  });
}

TEST_CASE("moe: weights of another router, experts without a gate, a limit") {
  const int64_t tokens = 21, d = 19, d_ff = 9, experts = 5, top_k = 2;
  each_backend([&](const Backend& backend) {
    for (const bool gated : {false, true}) {
      auto x = uniform(tokens * d, 1), weights = uniform(tokens * experts, 2, 0.1f, 1);
      const int64_t parts = gated ? 2 : 1;
      auto up = uniform(experts * parts * d_ff * d, 3), down = uniform(experts * d * d_ff, 4);
      for (int64_t t = 0; t < tokens; ++t)  // experts t, t + 1 of each token
        for (int64_t e = 0; e < experts; ++e)
          if ((e + experts - t % experts) % experts >= top_k) weights[t * experts + e] = 0;
      std::vector<float> y(x.size(), NAN), want(x.size());
      Moe op;
      op.x = view(x, {tokens, d});
      op.weights = view(weights, {tokens, experts});
      op.gate_up = view(up, {experts, parts, d_ff, d});
      op.down = view(down, {experts, d, d_ff});
      op.y = view(y, {tokens, d});
      op.top_k = top_k;
      op.activation = int32_t(gated ? Activation::silu : Activation::relu2);
      op.limit = gated ? 0.7f : 0;
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t e = 0; e < experts; ++e)
          for (int64_t f = 0; f < d_ff; ++f) {
            double part[2] = {0, 0};
            for (int64_t p = 0; p < parts; ++p)
              for (int64_t i = 0; i < d; ++i)
                part[p] += double(up[((e * parts + p) * d_ff + f) * d + i]) * x[t * d + i];
            const double g = std::min(part[0], 0.7), u = std::max(-0.7, std::min(part[1], 0.7));
            const double positive = std::max(0.0, part[0]);
            const double h = gated ? g / (1 + std::exp(-g)) * u : positive * positive;
            for (int64_t o = 0; o < d; ++o)
              want[t * d + o] += float(weights[t * experts + e] * h * down[(e * d + o) * d_ff + f]);
          }
      run(backend, op);
      CHECK(max_error(y, want) < 1e-5);
    }
  });
}

namespace {

// The formula, in f64 and by sorting.
std::vector<float> expert_weights(const ExpertWeights& op, const std::vector<float>& logits,
                                  const std::vector<float>& bias) {
  const int64_t tokens = op.logits[0], columns = op.logits[1], n = op.experts(), size = n / op.groups;
  std::vector<float> want(tokens * columns);
  for (int64_t t = 0; t < tokens; ++t) {
    std::vector<double> s(columns), c(n), group(op.groups, 0.0);
    double all = 0;
    for (int64_t e = 0; e < columns; ++e) all += std::exp(double(logits[t * columns + e]));
    for (int64_t e = 0; e < columns; ++e) {
      const double x = std::exp(double(logits[t * columns + e]));
      s[e] = op.score == 0 ? x / all : x / (1 + x);
      if (e < n) c[e] = s[e] + (bias.empty() ? 0 : bias[e]);
    }
    auto falling = [](std::vector<double> values) {
      std::vector<int64_t> order(values.size());
      std::iota(order.begin(), order.end(), 0);
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return values[a] > values[b]; });
      return order;
    };
    if (op.groups > 1) {
      for (int64_t g = 0; g < op.groups; ++g) {
        std::vector<double> members(c.begin() + g * size, c.begin() + (g + 1) * size);
        std::sort(members.rbegin(), members.rend());
        group[g] = members[0] + (size > 1 ? members[1] : 0);
      }
      const auto order = falling(group);
      for (int64_t k = op.topk_groups; k < op.groups; ++k)
        for (int64_t e = 0; e < size; ++e) c[order[k] * size + e] = -INFINITY;
    }
    const auto order = falling(c);
    double total = op.eps;
    for (int64_t k = 0; k < op.top_k; ++k) total += s[order[k]];
    for (int64_t e = n; e < columns; ++e) total += s[e];
    const double scale = op.renormalize ? op.scale / total : op.scale;
    for (int64_t k = 0; k < op.top_k; ++k) want[t * columns + order[k]] = float(scale * s[order[k]]);
    for (int64_t e = n; e < columns; ++e) want[t * columns + e] = float(scale * s[e]);
  }
  return want;
}

}  // namespace

TEST_CASE("expertWeights: scores, biases, groups, shared experts") {
  struct Router {
    int64_t experts, shared, groups, topk_groups, top_k;
    int score;
    bool biased, renormalize;
  };
  const int64_t tokens = 37;
  each_backend([&](const Backend& backend) {
    for (const Router& r : {Router{8, 0, 1, 1, 3, 0, false, true}, Router{12, 0, 4, 2, 5, 1, true, true},
                            Router{70, 0, 7, 3, 6, 1, true, false}, Router{5, 2, 1, 1, 2, 1, true, true},
                            Router{4, 0, 4, 2, 2, 1, true, true}, Router{1, 0, 1, 1, 1, 0, true, false}}) {
      CAPTURE(r.experts);
      auto logits = uniform(tokens * (r.experts + r.shared), 1, -3, 3), bias = uniform(r.experts, 2, -0.3f, 0.3f);
      if (!r.biased) bias.clear();
      std::vector<float> y(logits.size(), NAN);
      ExpertWeights op;
      op.logits = view(logits, {tokens, r.experts + r.shared});
      if (r.biased) op.bias = view(bias, {r.experts});
      op.weights = view(y, {tokens, r.experts + r.shared});
      op.score = r.score, op.top_k = r.top_k, op.shared = r.shared, op.groups = r.groups;
      op.topk_groups = r.topk_groups, op.renormalize = r.renormalize, op.eps = 1e-6f, op.scale = 2.5f;
      run(backend, op);
      CHECK(max_error(y, expert_weights(op, logits, bias)) < 3e-6);
    }
  });
}

TEST_CASE("moe: refuses what does not fit") {
  std::vector<float> data(100);
  Moe op;
  op.x = view(data, {2, 3});
  op.router = view(data, {4, 3});
  op.gate_up = view(data, {4, 2, 3, 3});
  op.down = view(data, {4, 3, 2});
  op.y = view(data, {2, 3});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("d_ff"), Error);
  op.gate_up = view(data, {4, 2, 2, 3});
  op.top_k = 5;
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("topK"), Error);
  op.top_k = 4;
  CHECK_NOTHROW(check(op));
}
