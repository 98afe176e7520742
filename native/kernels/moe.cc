#include "ops/moe.h"

#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/matmul.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

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

// h = act(min(h, limit)) · clamp(up, -limit, limit).
void limited(Context& cx, const Moe& op, float* h, const float* up, int64_t rows, int64_t d_ff) {
  const F high = set(op.limit), low = set(-op.limit);
  with_activation(op.activation, [&](auto act) {
    for_row_blocks(cx, rows, d_ff, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin * d_ff; i < end * d_ff; i += kLanes) {
        const int m = lanes_of(end * d_ff - i);
        store(h + i, act(min(high, load(h + i, m))) * max(low, min(high, load(up + i, m))), m);
      }
    });
  });
}

}  // namespace

template <>
void run(const Moe& op, Context& cx) {
  const int64_t tokens = op.x[0], d_model = op.x[1], experts = op.down[0], d_ff = op.down[2];
  const int64_t pairs = tokens * op.top_k;
  const int64_t floats =
      ceil_div(tokens * experts + 4 * pairs + experts + 1 + (op.limit > 0 ? 2 : 1) * pairs * d_ff, 16) * 16;
  const int64_t scratch = std::max(matmul_scratch(op.down, tokens), matmul_scratch(op.gate_up, tokens));
  float* p = cx.shared<float>(floats + scratch / 4);             // (tokens, experts)
  float* weight = p + tokens * experts;                          // (tokens, top_k)
  int32_t* chosen = reinterpret_cast<int32_t*>(weight + pairs);  // (tokens, top_k)
  Routes routes;
  routes.token = chosen + pairs;
  routes.weight = reinterpret_cast<float*>(routes.token + pairs);
  routes.first = reinterpret_cast<int32_t*>(routes.weight + pairs);
  float* hidden = reinterpret_cast<float*>(routes.first + experts + 1);  // (pairs, d_ff)
  void* interleaved = p + floats;
  auto rows = [](float* data, int64_t stride) {
    Rows r;
    r.data = data, r.stride = stride;
    return r;
  };

  Epilogue logits;
  logits.exact = true;
  if (op.router) matmul(cx, op.x, tokens, op.router, logits, rows(p, experts), interleaved);
  for (int64_t t = 0; t < tokens; ++t) {
    if (op.router)
      softmax(p + t * experts, experts);
    else
      std::memcpy(p + t * experts, op.weights.row(t), experts * sizeof(float));
    choose(p + t * experts, experts, op.top_k, op.renormalize, chosen + t * op.top_k, weight + t * op.top_k);
  }
  group(chosen, weight, tokens, op.top_k, experts, routes);

  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t c = 0; c < d_model; ++c) op.y.row(t)[c] = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t first = routes.first[e], count = routes.first[e + 1] - first;
    const Rows x(op.x, routes.token + first), y(op.y, routes.token + first), h = rows(hidden + first * d_ff, d_ff);
    Epilogue act;
    act.activation = op.activation;
    if (op.limit > 0) {
      float* up = hidden + (pairs + first) * d_ff;
      matmul(cx, x, count, op.gate_up, 2 * e, {}, h, interleaved);
      matmul(cx, x, count, op.gate_up, 2 * e + 1, {}, rows(up, d_ff), interleaved);
      limited(cx, op, hidden + first * d_ff, up, count, d_ff);
    } else if (op.gated()) {  // hidden = act(gate·x) · (up·x)
      matmul(cx, x, count, op.gate_up, 2 * e + 1, {}, h, interleaved);
      act.gate = h;
      matmul(cx, x, count, op.gate_up, 2 * e, act, h, interleaved);
    } else {
      matmul(cx, x, count, op.gate_up, e, act, h, interleaved);
    }
    Epilogue weighted;  // y += p_e · down·hidden
    weighted.scale = routes.weight + first;
    weighted.residual = y;
    matmul(cx, h, count, op.down, e, weighted, y, interleaved);
  }
}

}  // namespace statespace::STATESPACE_ISA
