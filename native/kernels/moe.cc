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

// h = act(min(gate, limit)) · clamp(up, -limit, limit); act(gate) where there is no up.
void activate(Context& cx, const Moe& op, const Rows& gate, const Rows& up, int64_t rows, int64_t d_ff, float* h) {
  const F high = set(op.limit > 0 ? op.limit : __builtin_inff()), low = zero() - high;
  with_activation(op.activation, [&](auto act) {
    for_row_blocks(cx, rows, d_ff, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t i = 0; i < d_ff; i += kLanes) {
          const int m = lanes_of(d_ff - i);
          F v = act(min(high, load(gate.row<float>(r) + i, m)));
          if (up.data) v = v * max(low, min(high, load(up.row<float>(r) + i, m)));
          store(h + r * d_ff + i, v, m);
        }
    });
  });
}

// Rows of activations in memory.
Rows rows_of(float* data, int64_t stride) {
  Rows r;
  r.data = data, r.stride = stride;
  return r;
}

// gate·x and up·x of the pairs from `first` on, where they do not become h at once: kept, or beside each other.
struct Halves {
  Halves(const Moe& op, const Routes& routes, float* hidden, int64_t first) {
    const int64_t d_ff = op.down[2], pairs = op.x[0] * op.top_k;
    if (op.hidden) {
      gate = kept_hidden(op.hidden, routes.pair + first, 0);
      if (op.gated()) up = kept_hidden(op.hidden, routes.pair + first, 1);
    } else {
      gate = rows_of(hidden + first * d_ff, d_ff), up = rows_of(hidden + (pairs + first) * d_ff, d_ff);
    }
  }
  static bool apart(const Moe& op) { return op.limit > 0 || op.hidden; }
  Rows gate, up;
};

// Bytes that matmul_chains() needs for every (token, expert) pair, where few tokens are taken so; else 0.
int64_t chain_scratch(const Moe& op) {
  const int64_t tokens = op.x[0];
  if (!chains(op.gate_up, tokens) || !chains(op.down, tokens)) return 0;
  return matmul_scratch(op.gate_up, 1) + matmul_scratch(op.down, 1);
}

// Few tokens: the products of all experts at once, y their sum in the order of experts.
void run_few(const Moe& op, Context& cx, const Routes& routes, float* hidden, char* scratch) {
  const int64_t experts = op.down[0], d_ff = op.down[2], pairs = op.x[0] * op.top_k;
  const int64_t wide = matmul_scratch(op.gate_up, 1), narrow = matmul_scratch(op.down, 1);
  std::vector<Multiplication> up, down;
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t first = routes.first[e], count = routes.first[e + 1] - first;
    if (count == 0) continue;
    const Rows x(op.x, routes.token + first), y(op.y, routes.token + first), h = rows_of(hidden + first * d_ff, d_ff);
    void* space = scratch + first * wide;
    Epilogue act, weighted;
    if (Halves::apart(op)) {
      const Halves halves(op, routes, hidden, first);
      up.push_back({x, count, &op.gate_up, op.gated() ? 2 * e : e, {}, halves.gate, space});
      if (op.gated()) up.push_back({x, count, &op.gate_up, 2 * e + 1, {}, halves.up, space});
    } else {
      act.activation = op.activation;
      if (op.gated()) {
        up.push_back({x, count, &op.gate_up, 2 * e + 1, {}, h, space});
        act.gate = h;
      }
      up.push_back({x, count, &op.gate_up, op.gated() ? 2 * e : e, act, h, space});
    }
    weighted.scale = routes.weight + first;
    weighted.residual = y;
    down.push_back({h, count, &op.down, e, weighted, y, scratch + pairs * wide + first * narrow});
  }
  matmul_chains(cx, up, op.gated() ? 2 : 1);
  if (const Halves all(op, routes, hidden, 0); Halves::apart(op))
    activate(cx, op, all.gate, all.up, pairs, d_ff, hidden);
  matmul_chains(cx, down, int64_t(down.size()));
}

}  // namespace

template <>
void run(const Moe& op, Context& cx) {
  const int64_t tokens = op.x[0], d_model = op.x[1], experts = op.down[0], d_ff = op.down[2];
  const int64_t pairs = tokens * op.top_k;
  const int64_t halves = op.limit > 0 && !op.hidden ? 2 : 1;
  const int64_t floats = ceil_div(tokens * experts + 5 * pairs + experts + 1 + halves * pairs * d_ff, 16) * 16;
  const int64_t of_chains = chain_scratch(op);
  const int64_t scratch =
      std::max({matmul_scratch(op.down, tokens), matmul_scratch(op.gate_up, tokens), pairs * of_chains});
  float* p = cx.shared<float>(floats + scratch / 4);             // (tokens, experts)
  float* weight = p + tokens * experts;                          // (tokens, top_k)
  int32_t* chosen = reinterpret_cast<int32_t*>(weight + pairs);  // (tokens, top_k)
  Routes routes;
  routes.token = chosen + pairs;
  routes.pair = routes.token + pairs;
  routes.weight = reinterpret_cast<float*>(routes.pair + pairs);
  routes.first = reinterpret_cast<int32_t*>(routes.weight + pairs);
  float* hidden = reinterpret_cast<float*>(routes.first + experts + 1);  // (pairs, d_ff)
  void* interleaved = p + floats;
  Epilogue logits;
  logits.exact = true;
  if (op.router) matmul(cx, op.x, tokens, op.router, logits, rows_of(p, experts), interleaved);
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
  if (of_chains) return run_few(op, cx, routes, hidden, static_cast<char*>(interleaved));
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t first = routes.first[e], count = routes.first[e + 1] - first;
    const Rows x(op.x, routes.token + first), y(op.y, routes.token + first), h = rows_of(hidden + first * d_ff, d_ff);
    Epilogue act;
    act.activation = op.activation;
    if (Halves::apart(op)) {
      const Halves halves(op, routes, hidden, first);
      matmul(cx, x, count, op.gate_up, op.gated() ? 2 * e : e, {}, halves.gate, interleaved);
      if (op.gated()) matmul(cx, x, count, op.gate_up, 2 * e + 1, {}, halves.up, interleaved);
      activate(cx, op, halves.gate, halves.up, count, d_ff, hidden + first * d_ff);
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
