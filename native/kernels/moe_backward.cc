#include <cstring>
#include <vector>

#include "backend/kernels.h"
#include "isa/stream.h"
#include "kernels/activation_gradients.h"
#include "kernels/matmul_gradient.h"
#include "kernels/moe_routes.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/moe.h"

namespace statespace::STATESPACE_ISA {
namespace {

Rows rows_of(float* data, int64_t stride) {
  Rows r;
  r.data = data, r.stride = stride;
  return r;
}

// Of the pairs of one expert, (count, d_ff) each: gate = gate·x and up = up·x (absent without a gate) in, their
// gradients a and b out; through = down·dy in; weighted = c h out, dc out, in the order of tokens.
struct Hidden {
  Rows gate, up;
  float *a, *b, *through, *weighted;
};

void hidden_gradient(const MoeBackward& op, const Hidden& h, const float* c, const int32_t* pair, float* dc,
                     int64_t count, int64_t d_ff, Context& cx) {
  const F high = set(op.limit > 0 ? op.limit : __builtin_inff()), low = zero() - high;
  with_activation_gradient(op.activation, [&](auto act, auto gradient) {
    for_row_blocks(cx, count, d_ff, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        const F weight = set(c[r]);
        const float *gates = h.gate.row<float>(r), *ups = h.b ? h.up.row<float>(r) : nullptr;
        F total = zero();
        for (int64_t i = 0; i < d_ff; i += kLanes) {
          const int m = lanes_of(d_ff - i);
          const int64_t to = r * d_ff + i;
          const F gate = load(gates + i, m), up = ups ? load(ups + i, m) : set(1.f), through = load(h.through + to, m);
          const F cut_gate = min(high, gate), cut_up = max(low, min(high, up)), value = act(cut_gate);
          total = fma(through, value * cut_up, total);
          store(h.weighted + to, weight * value * cut_up, m);
          const F da = weight * through * cut_up * gradient(cut_gate), db = weight * through * value;
          store(h.a + to, select(less(high, gate), zero(), da), m);
          if (h.b) store(h.b + to, select(less(high, abs(up)), zero(), db), m);
        }
        dc[pair[r]] = sum(total);
      }
    });
  });
}

// Zeros in a gradient of all experts' matrices for those without tokens. Written from end to end past the caches: 60 to
// 100 GB/s, where rows in turns came at 40.
void clear_unreached(const Context& cx, const Routes& routes, const Tensor& gradient) {
  constexpr int64_t kPiece = 1 << 15, kStreamedFloats = 1 << 18;
  if (!gradient) return;
  const int64_t experts = gradient[0], each = gradient.size() / std::max<int64_t>(1, experts);
  std::vector<float*> to;
  for (int64_t e = 0; e < experts; ++e)
    if (routes.first[e] == routes.first[e + 1]) to.push_back(gradient.f32() + e * each);
  const int64_t pieces = ceil_div(each, kPiece), count = int64_t(to.size());
  const bool streamed = count * each >= kStreamedFloats && each % kLanes == 0 && streams(gradient.f32(), each);
  cx.parallel_stretches(count * pieces, [&](int64_t i, int) {
    const int64_t first = i % pieces * kPiece, n = std::min(kPiece, each - first);
    float* from = to[i / pieces] + first;
    if (!streamed) return void(std::memset(from, 0, n * sizeof(float)));
    for (int64_t c = 0; c < n; c += kLanes) stream(from + c, zero());
    end_streams();
  });
}

// From the gradients of the chosen weights to those of the logits: (experts) of one token.
void router_gradient(const MoeBackward& op, const float* p, const int32_t* chosen, const float* weight, const float* dc,
                     int64_t experts, float* to) {
  float total = 0;
  for (int64_t k = 0; k < op.top_k; ++k) total += weight[k] * dc[k];
  for (int64_t e = 0; e < experts; ++e) to[e] = op.renormalize ? 0 : -p[e] * total;
  for (int64_t k = 0; k < op.top_k; ++k) to[chosen[k]] = weight[k] * (dc[k] - total);
}

}  // namespace

template <>
void run(const MoeBackward& op, Context& cx) {
  const int64_t tokens = op.x[0], d_model = op.x[1], experts = op.down[0], d_ff = op.down[2], pairs = tokens * op.top_k;
  const bool gated = op.gate_up[1] == 2;
  const int64_t floats = 2 * tokens * experts + 6 * pairs + experts + 1 + 4 * tokens * d_ff + 64;
  float* p = cx.kept<float>(floats);                         // (tokens, experts)
  float* dlogits = p + tokens * experts;                     // (tokens, experts)
  float* weight = dlogits + tokens * experts;                // (tokens, top_k)
  float* dc = weight + pairs;                                // (tokens, top_k)
  int32_t* chosen = reinterpret_cast<int32_t*>(dc + pairs);  // (tokens, top_k)
  Routes routes;
  routes.token = chosen + pairs;
  routes.pair = routes.token + pairs;
  routes.weight = reinterpret_cast<float*>(routes.pair + pairs);
  routes.first = reinterpret_cast<int32_t*>(routes.weight + pairs);
  float* hidden = reinterpret_cast<float*>(routes.first + experts + 1);
  Hidden h{rows_of(hidden, d_ff),
           rows_of(hidden + tokens * d_ff, d_ff),
           hidden,
           gated ? hidden + tokens * d_ff : nullptr,
           hidden + 2 * tokens * d_ff,
           hidden + 3 * tokens * d_ff};
  int64_t bytes = std::max(matmul_scratch(op.down, tokens), matmul_scratch(op.gate_up, tokens));
  bytes = std::max({bytes, gradient_scratch(op.down), gradient_scratch(op.gate_up)});
  if (op.router) bytes = std::max({bytes, matmul_scratch(op.router, tokens), gradient_scratch(op.router)});
  char* scratch = cx.shared<char>(bytes);

  Epilogue exact;
  exact.exact = true;
  if (op.router) matmul(cx, op.x, tokens, op.router, exact, rows_of(p, experts), scratch);
  for (int64_t t = 0; t < tokens; ++t) {
    float* own = dlogits + t * experts;  // choose() marks what it takes
    if (op.router)
      softmax(p + t * experts, experts);
    else
      std::memcpy(p + t * experts, op.weights.row(t), experts * sizeof(float));
    std::memcpy(own, p + t * experts, experts * sizeof(float));
    choose(own, experts, op.top_k, op.renormalize, chosen + t * op.top_k, weight + t * op.top_k);
  }
  group(chosen, weight, tokens, op.top_k, experts, routes);

  if (!op.accumulate) {
    clear_unreached(cx, routes, op.dgate_up);
    clear_unreached(cx, routes, op.ddown);
  }
  if (op.dx)
    for (int64_t t = 0; t < tokens; ++t) std::memset(op.dx.row(t), 0, d_model * sizeof(float));
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t first = routes.first[e], count = routes.first[e + 1] - first;
    if (count == 0) continue;
    const int32_t* index = routes.token + first;
    const Rows x(op.x, index), dy(op.dy, index);
    const int64_t parts = gated ? 2 : 1;
    if (op.hidden) {
      h.gate = kept_hidden(op.hidden, routes.pair + first, 0);
      if (gated) h.up = kept_hidden(op.hidden, routes.pair + first, 1);
    } else {
      matmul(cx, x, count, op.gate_up, parts * e, {}, h.gate, scratch);
      if (gated) matmul(cx, x, count, op.gate_up, parts * e + 1, {}, h.up, scratch);
    }
    matmul_dx(cx, dy, count, op.down, e, rows_of(h.through, d_ff), false, rounds_gradients(cx, op.down), scratch);
    hidden_gradient(op, h, routes.weight + first, routes.pair + first, dc, count, d_ff, cx);
    if (op.ddown)
      matmul_dweight(cx, dy, rows_of(h.weighted, d_ff), count, d_model, d_ff, op.ddown.f32() + e * d_model * d_ff, d_ff,
                     op.accumulate, rounds_gradients(cx, op.down), scratch);
    for (int64_t part = 0; part < parts; ++part) {
      const Rows gradient = rows_of(part ? h.b : h.a, d_ff);
      if (op.dgate_up)
        matmul_dweight(cx, gradient, x, count, d_ff, d_model, op.dgate_up.f32() + (parts * e + part) * d_ff * d_model,
                       d_model, op.accumulate, rounds_gradients(cx, op.gate_up), scratch);
      if (op.dx)
        matmul_dx(cx, gradient, count, op.gate_up, parts * e + part, Rows(op.dx, index), true,
                  rounds_gradients(cx, op.gate_up), scratch);
    }
  }

  for (int64_t t = 0; t < tokens; ++t) {
    float* to = dlogits + t * experts;
    const float* own = dc + t * op.top_k;
    if (op.router) {
      router_gradient(op, p + t * experts, chosen + t * op.top_k, weight + t * op.top_k, own, experts, to);
      continue;
    }
    std::memset(to, 0, experts * sizeof(float));
    float total = 0, sum = 0;
    for (int64_t k = 0; k < op.top_k; ++k)
      total += weight[t * op.top_k + k] * own[k], sum += p[t * experts + chosen[t * op.top_k + k]];
    for (int64_t k = 0; k < op.top_k; ++k)
      to[chosen[t * op.top_k + k]] = op.renormalize ? (own[k] - total) / sum : own[k];
    if (op.dweights) std::memcpy(op.dweights.row(t), to, experts * sizeof(float));
  }
  if (!op.router) return;
  const Rows dlogit = rows_of(dlogits, experts);
  if (op.drouter)
    matmul_dweight(cx, dlogit, op.x, tokens, experts, d_model, op.drouter.f32(), op.drouter.row_stride, op.accumulate,
                   false, scratch);
  if (op.dx) matmul_dx(cx, dlogit, tokens, op.router, 0, op.dx, true, false, scratch);
}

}  // namespace statespace::STATESPACE_ISA
