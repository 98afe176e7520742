#include "ops/moe.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Rows of the router or of an expert's matrix that one task handles.
constexpr int64_t kRows = 32;

// Calls fn with a typed pointer to a weight's values.
template <class Fn>
void with_values(const Tensor& t, Fn&& fn) {
  if (t.dtype == DType::f16) return fn(t.as<const f16_t>());
  if (t.dtype == DType::bf16) return fn(t.as<const bf16_t>());
  fn(t.as<const float>());
}

template <class W>
float dot(const float* x, const W* w, int64_t n) {
  F a = zero(), b = zero(), c = zero(), d = zero();
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = fma(load(x + i), load(w + i), a);
    b = fma(load(x + i + kLanes), load(w + i + kLanes), b);
    c = fma(load(x + i + 2 * kLanes), load(w + i + 2 * kLanes), c);
    d = fma(load(x + i + 3 * kLanes), load(w + i + 3 * kLanes), d);
  }
  for (; i + kLanes <= n; i += kLanes) a = fma(load(x + i), load(w + i), a);
  if (i < n) b = fma(load(x + i, int(n - i)), load(w + i, int(n - i)), b);
  return sum((a + b) + (c + d));
}

// p (experts): logits in, their softmax out.
void softmax(float* p, int64_t n) {
  float top = p[0];
  for (int64_t e = 1; e < n; ++e) top = p[e] > top ? p[e] : top;
  F total = zero();
  for (int64_t e = 0; e < n; e += kLanes) {
    const int m = n - e < kLanes ? int(n - e) : kLanes;
    F v = exp(load(p + e, m) - set(top));
    store(p + e, v, m);
    total = total + load(p + e, m);
  }
  const float scale = 1 / sum(total);
  for (int64_t e = 0; e < n; ++e) p[e] *= scale;
}

// The topK largest of p, in falling order; taken ones are marked by -1.
void choose(float* p, int64_t n, int64_t top_k, bool renormalize, int32_t* chosen, float* weight) {
  float total = 0;
  for (int64_t k = 0; k < top_k; ++k) {
    int64_t best = -1;
    for (int64_t e = 0; e < n; ++e)
      if (p[e] != -1 && (best < 0 || p[e] > p[best])) best = e;
    chosen[k] = int32_t(best), weight[k] = p[best], total += p[best];
    p[best] = -1;
  }
  if (renormalize)
    for (int64_t k = 0; k < top_k; ++k) weight[k] /= total;
}

// (token, expert) pairs in the order of experts.
struct Routes {
  int32_t* first;  // (experts + 1) where an expert's pairs start
  int32_t* token;  // (pairs)
  float* weight;   // (pairs)
  float* hidden;   // (pairs, d_ff)
};

void group(const int32_t* chosen, const float* weight, int64_t tokens, int64_t top_k, int64_t experts,
           const Routes& routes) {
  for (int64_t e = 0; e <= experts; ++e) routes.first[e] = 0;
  for (int64_t i = 0; i < tokens * top_k; ++i) ++routes.first[chosen[i] + 1];
  for (int64_t e = 0; e < experts; ++e) routes.first[e + 1] += routes.first[e];
  for (int64_t i = 0; i < tokens * top_k; ++i) {
    const int32_t at = routes.first[chosen[i]]++;
    routes.token[at] = int32_t(i / top_k), routes.weight[at] = weight[i];
  }
  for (int64_t e = experts; e > 0; --e) routes.first[e] = routes.first[e - 1];
  routes.first[0] = 0;
}

}  // namespace

template <>
void run(const Moe& op, Context& cx) {
  const int64_t tokens = op.x[0], d_model = op.x[1], experts = op.router[0], d_ff = op.down[2];
  const int64_t pairs = tokens * op.top_k;
  float* p = cx.shared<float>(tokens * experts + 4 * pairs + experts + 1 + pairs * d_ff);  // (tokens, experts)
  float* weight = p + tokens * experts;                                                    // (tokens, top_k)
  int32_t* chosen = reinterpret_cast<int32_t*>(weight + pairs);                            // (tokens, top_k)
  Routes routes;
  routes.token = chosen + pairs;
  routes.weight = reinterpret_cast<float*>(routes.token + pairs);
  routes.first = reinterpret_cast<int32_t*>(routes.weight + pairs);
  routes.hidden = reinterpret_cast<float*>(routes.first + experts + 1);

  const int64_t router_blocks = ceil_div(experts, kRows);
  cx.parallel_for(tokens * router_blocks, [&](int64_t i, int) {
    const int64_t t = i / router_blocks, begin = i % router_blocks * kRows;
    const int64_t end = begin + kRows < experts ? begin + kRows : experts;
    with_values(op.router, [&](auto* w) {
      for (int64_t e = begin; e < end; ++e)
        p[t * experts + e] = dot(op.x.row(t), w + e * op.router.row_stride, d_model);
    });
  });
  for (int64_t t = 0; t < tokens; ++t) {
    softmax(p + t * experts, experts);
    choose(p + t * experts, experts, op.top_k, op.renormalize, chosen + t * op.top_k, weight + t * op.top_k);
  }
  group(chosen, weight, tokens, op.top_k, experts, routes);

  // hidden = silu(gate x) · up x
  const int64_t hidden_blocks = ceil_div(d_ff, kRows);
  cx.parallel_for(experts * hidden_blocks, [&](int64_t i, int) {
    const int64_t e = i / hidden_blocks, begin = i % hidden_blocks * kRows;
    const int64_t end = begin + kRows < d_ff ? begin + kRows : d_ff;
    with_values(op.gate_up, [&](auto* w) {
      const auto* gate = w + e * op.gate_up.row_stride;
      const auto* up = gate + d_ff * d_model;
      for (int64_t r = routes.first[e]; r < routes.first[e + 1]; ++r) {
        const float* x = op.x.row(routes.token[r]);
        float* h = routes.hidden + r * d_ff;
        float gates[kRows];
        for (int64_t f = begin; f < end; ++f) {
          gates[f - begin] = dot(x, gate + f * d_model, d_model);
          h[f] = dot(x, up + f * d_model, d_model);
        }
        for (int64_t f = begin; f < end; f += kLanes) {
          const int m = end - f < kLanes ? int(end - f) : kLanes;
          store(h + f, silu(load(gates + (f - begin), m)) * load(h + f, m), m);
        }
      }
    });
  });

  // A task owns columns of y, so that experts add to a token without a race and in a fixed order.
  cx.parallel_for(ceil_div(d_model, kRows), [&](int64_t i, int) {
    const int64_t begin = i * kRows, end = begin + kRows < d_model ? begin + kRows : d_model;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t c = begin; c < end; ++c) op.y.row(t)[c] = 0;
    with_values(op.down, [&](auto* w) {
      for (int64_t e = 0; e < experts; ++e)
        for (int64_t r = routes.first[e]; r < routes.first[e + 1]; ++r)
          for (int64_t c = begin; c < end; ++c)
            op.y.row(routes.token[r])[c] +=
                routes.weight[r] * dot(routes.hidden + r * d_ff, w + e * op.down.row_stride + c * d_ff, d_ff);
    });
  });
}

}  // namespace statespace::STATESPACE_ISA
