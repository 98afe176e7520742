#include "ops/moe.h"

#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/matmul.h"
#include "kernels/moe_routes.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

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
