#include "ops/expert_weights.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

// s (n): the scores of n logits.
void scores(const float* logits, int64_t n, bool softmax, float* s) {
  float top = logits[0];
  for (int64_t e = 1; e < n; ++e) top = logits[e] > top ? logits[e] : top;
  F total = zero();
  for (int64_t e = 0; e < n; e += kLanes) {
    const int m = lanes_of(n - e);
    const F x = load(logits + e, m);
    store(s + e, softmax ? exp(x - set(top)) : sigmoid(x), m);
    total = total + load(s + e, m);
  }
  if (!softmax) return;
  const float scale = 1 / sum(total);
  for (int64_t e = 0; e < n; ++e) s[e] *= scale;
}

int64_t largest(const float* c, int64_t n) {
  int64_t best = 0;
  for (int64_t e = 1; e < n; ++e)
    if (c[e] > c[best]) best = e;
  return best;
}

// Leaves the c of the best groups, -inf in the others. score (groups) is scratch.
void keep_groups(float* c, int64_t n, int64_t groups, int64_t kept, float* score) {
  constexpr float kNone = -__builtin_inff();
  const int64_t size = n / groups;
  for (int64_t g = 0; g < groups; ++g) {
    float first = kNone, second = kNone;
    for (int64_t e = g * size; e < (g + 1) * size; ++e) {
      if (c[e] > first)
        second = first, first = c[e];
      else if (c[e] > second)
        second = c[e];
    }
    score[g] = size > 1 ? first + second : first;
  }
  for (int64_t k = 0; k < groups; ++k) {
    const int64_t g = largest(score, groups);
    score[g] = kNone;
    for (int64_t e = g * size; k >= kept && e < (g + 1) * size; ++e) c[e] = kNone;
  }
}

// The experts of a token, and what their weights are made of.
struct Choice {
  float* s;          // (columns): scores
  float *c, *group;  // (columns), (groups): scratch
  float total;       // Σ s of the chosen and the shared
  static int64_t floats(const ExpertWeights& op) { return 2 * op.logits[1] + op.groups; }
  Choice(const ExpertWeights& op, float* memory) : s(memory), c(s + op.logits[1]), group(c + op.logits[1]) {}

  // taken(e): the shared columns, then the chosen ones.
  template <class Fn>
  void make(const ExpertWeights& op, int64_t token, Fn&& taken) {
    const int64_t columns = op.logits[1], experts = op.experts();
    scores(op.logits.row(token), columns, op.score == 0, s);
    total = 0;
    const auto take = [&](int64_t e) {
      total += s[e];
      taken(e);
    };
    for (int64_t e = 0; e < experts; ++e) c[e] = s[e] + (op.bias ? op.bias.f32()[e] : 0);
    for (int64_t e = experts; e < columns; ++e) take(e);
    if (op.groups > 1) keep_groups(c, experts, op.groups, op.topk_groups, group);
    for (int64_t k = 0; k < op.top_k; ++k) {
      const int64_t e = largest(c, experts);
      c[e] = -__builtin_inff();
      take(e);
    }
  }
};

}  // namespace

template <>
void run(const ExpertWeights& op, Context& cx) {
  const int64_t columns = op.logits[1];
  for_row_blocks(cx, op.logits[0], columns, [&](int64_t begin, int64_t end, int worker) {
    Choice choice(op, cx.local<float>(worker, Choice::floats(op)));
    for (int64_t t = begin; t < end; ++t) {
      float* y = op.weights.row(t);
      for (int64_t e = 0; e < columns; ++e) y[e] = 0;
      choice.make(op, t, [&](int64_t e) { y[e] = choice.s[e]; });
      const float scale = op.renormalize ? op.scale / (choice.total + op.eps) : op.scale;
      for (int64_t e = 0; e < columns; ++e) y[e] *= scale;
    }
  });
}

template <>
void run(const ExpertWeightsBackward& op, Context& cx) {
  if (!op.dlogits) return;
  const ExpertWeights forward = op.forward();
  const int64_t columns = op.logits[1];
  for_row_blocks(cx, op.logits[0], columns, [&](int64_t begin, int64_t end, int worker) {
    float* ds = cx.local<float>(worker, columns + Choice::floats(forward));
    Choice choice(forward, ds + columns);
    for (int64_t t = begin; t < end; ++t) {
      const float* dweights = op.dweights.row(t);
      float *dlogits = op.dlogits.row(t), weighted = 0, through = 0;
      const float* s = choice.s;
      for (int64_t e = 0; e < columns; ++e) ds[e] = 0, dlogits[e] = 0;
      // dlogits marks what is taken.
      choice.make(forward, t, [&](int64_t e) {
        dlogits[e] = 1;
        weighted += dweights[e] * s[e];
      });
      const float sum = op.renormalize ? choice.total + op.eps : 1, share = op.renormalize ? weighted / sum : 0;
      for (int64_t e = 0; e < columns; ++e) {
        if (dlogits[e] != 0) ds[e] = op.scale / sum * (dweights[e] - share);
        through += s[e] * ds[e];
      }
      for (int64_t e = 0; e < columns; ++e) dlogits[e] = s[e] * (op.score == 0 ? ds[e] - through : (1 - s[e]) * ds[e]);
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
