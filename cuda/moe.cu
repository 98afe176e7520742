// Routed experts: route every token, put the (token, expert) pairs of an expert side by side, multiply each expert's
// rows at once, and add a token's experts in the order in which they were chosen. No pair's numbers depend on where it
// lies, so that the order in which pairs arrive does not matter.
#include "ops/moe.h"
#include "product.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;

struct MoeArgs {
  int64_t tokens, d_model;
  int experts, top_k;
  bool routed;  // p holds the weights already
  bool renormalize;
  global<float> p;          // (tokens, experts) logits, then the softmax; -1 once taken
  global<int32_t> chosen;   // (tokens, top_k)
  global<float> weight;     // (tokens, top_k)
  global<int32_t> first;    // (experts + 1) where an expert's pairs begin
  global<int32_t> cursor;   // (experts) pairs of an expert, then where its next one goes
  global<int32_t> source;   // (pairs) the pair's token, in the order of experts
  global<int32_t> place;    // (tokens, top_k) where the pair lies in that order
  global<const float> out;  // (pairs, d_model)
  Rows<float> y;
  Rows<const float> weights;

  __device__ int64_t pairs() const { return tokens * top_k; }
};

__global__ void __launch_bounds__(kThreads) clear_counts(MoeArgs a) {
  for (int e = int(threadIdx.x); e < a.experts; e += kThreads) a.cursor[e] = 0;
}

struct Candidate {
  float p;
  int expert;  // -1: none

  // The larger, ties to the lower index; a NaN is no larger than anything.
  __device__ Candidate or_better(const Candidate& other) const {
    if (other.expert < 0) return *this;
    const bool better = expert < 0 || other.p > p || (!(p > other.p) && other.expert < expert);
    return better ? other : *this;
  }
};

// One token a warp.
__global__ void __launch_bounds__(kThreads) route(MoeArgs a) {
  const int64_t t = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  if (t >= a.tokens) return;  // the whole warp
  const global<float> p = a.p + t * a.experts;
  if (a.routed) {
    for (int e = lane(); e < a.experts; e += 32) p[e] = a.weights[t][e];
  } else {
    float top = -INFINITY, total = 0;
    for (int e = lane(); e < a.experts; e += 32) top = fmaxf(top, p[e]);
    for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, shuffle_xor(top, mask));
    for (int e = lane(); e < a.experts; e += 32) total += expf(p[e] - top);
    for (int mask = 16; mask > 0; mask /= 2) total += shuffle_xor(total, mask);
    for (int e = lane(); e < a.experts; e += 32) p[e] = expf(p[e] - top) / total;
  }

  float kept = 0;
  for (int k = 0; k < a.top_k; ++k) {
    Candidate best{0, -1};
    for (int e = lane(); e < a.experts; e += 32)
      if (p[e] != -1) best = best.or_better({p[e], e});
    for (int mask = 16; mask > 0; mask /= 2) best = best.or_better(shuffle_xor(best, mask));
    kept += best.p;
    if (best.expert % 32 == lane()) p[best.expert] = -1;
    if (lane() == 0) {
      a.chosen[t * a.top_k + k] = best.expert, a.weight[t * a.top_k + k] = best.p;
      atomic_add(a.cursor, best.expert, 1);
    }
  }
  warp_barrier();
  for (int k = lane(); a.renormalize && k < a.top_k; k += 32) a.weight[t * a.top_k + k] /= kept;
}

__global__ void __launch_bounds__(kThreads) find_places(MoeArgs a) {
  if (threadIdx.x > 0) return;
  int at = 0;
  for (int e = 0; e < a.experts; ++e) {
    const int count = a.cursor[e];
    a.first[e] = a.cursor[e] = at;
    at += count;
  }
  a.first[a.experts] = at;
}

__global__ void __launch_bounds__(kThreads) place_pairs(MoeArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.pairs()) return;
  const int at = atomic_add(a.cursor, a.chosen[i], 1);
  a.source[at] = int32_t(i / a.top_k);
  a.place[i] = at;
}

__global__ void __launch_bounds__(kThreads) add_experts(MoeArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= a.tokens * a.d_model) return;
  const int64_t t = i / a.d_model, c = i % a.d_model;
  float y = 0;
  for (int k = 0; k < a.top_k; ++k) {
    const int64_t pair = t * a.top_k + k;
    y += a.weight[pair] * a.out[a.place[pair] * a.d_model + c];
  }
  a.y[t][c] = y;
}

FloatRows rows_of(global<const float> data, int64_t stride) {
  FloatRows rows;
  rows.f32.data = data, rows.f32.stride = stride;
  return rows;
}

Rows<float> rows_to(global<float> data, int64_t stride) {
  Rows<float> rows;
  rows.data = data, rows.stride = stride;
  return rows;
}

}  // namespace

template <>
void run(const Moe& op) {
  const int64_t tokens = op.x[0], d_model = op.x[1], experts = op.down[0], d_ff = op.down[2];
  const int64_t pairs = tokens * op.top_k, width = op.gate_up[1] * d_ff;
  if (tokens == 0 || d_model == 0) return;
  const Scratch<float> p(tokens * experts), weight(pairs), hidden_rows(pairs * width), out(pairs * d_model);
  const Scratch<int32_t> chosen(pairs), first(experts + 1), cursor(experts), source(pairs), place(pairs);
  const bool routed = bool(op.weights);
  const MoeArgs args{tokens,       d_model,       int(experts),  int(op.top_k), routed,        op.renormalize,
                     p.data(),     chosen.data(), weight.data(), first.data(),  cursor.data(), source.data(),
                     place.data(), out.data(),    op.y,          op.weights};

  // The choice of experts must not hang on the rounding of a product.
  if (!routed) {
    Product router(op.router, Sequences(Tensor{}, Tensor{}, tokens));
    router.x = op.x;
    router.exact = true;
    router.epilogue.y = rows_to(p.data(), experts);
    product(router);
  }
  launch(clear_counts, {1}, kThreads, args);
  launch(route, {ceil_div(tokens, kThreads / 32)}, kThreads, args);
  launch(find_places, {1}, 32, args);
  launch(place_pairs, {ceil_div(pairs, kThreads)}, kThreads, args);

  Sequences groups(Tensor{}, Tensor{}, pairs);
  groups.bounds = first.data(), groups.count = int(experts);
  Product hidden(op.gate_up, groups);
  hidden.x = op.x;
  hidden.source = source.data();
  hidden.epilogue.y = rows_to(hidden_rows.data(), width);
  if (!op.gated()) hidden.epilogue.activation = Activation(op.activation);
  product(hidden);
  Product down(op.down, groups);
  down.x = rows_of(hidden_rows.data(), width);
  down.gated = op.gated(), down.gate = Activation(op.activation), down.limit = op.limit;
  down.epilogue.y = rows_to(out.data(), d_model);
  product(down);
  launch(add_experts, {ceil_div(tokens * d_model, kThreads)}, kThreads, args);
}

}  // namespace statespace::cuda
