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

}  // namespace

template <>
void run(const ExpertWeights& op, Context& cx) {
  const int64_t columns = op.logits[1], experts = op.experts();
  for_row_blocks(cx, op.logits[0], columns, [&](int64_t begin, int64_t end, int worker) {
    float* s = cx.local<float>(worker, 2 * columns + op.groups);
    float *c = s + columns, *group_scores = c + columns;
    for (int64_t t = begin; t < end; ++t) {
      float* y = op.weights.row(t);
      scores(op.logits.row(t), columns, op.score == 0, s);
      float total = 0;
      for (int64_t e = 0; e < columns; ++e) {
        const bool shared = e >= experts;
        c[e] = s[e] + (op.bias && !shared ? op.bias.f32()[e] : 0);
        y[e] = shared ? s[e] : 0;
        total += y[e];
      }
      if (op.groups > 1) keep_groups(c, experts, op.groups, op.topk_groups, group_scores);
      for (int64_t k = 0; k < op.top_k; ++k) {
        const int64_t e = largest(c, experts);
        c[e] = -__builtin_inff();
        y[e] = s[e];
        total += s[e];
      }
      const float scale = op.renormalize ? op.scale / (total + op.eps) : op.scale;
      for (int64_t e = 0; e < columns; ++e) y[e] *= scale;
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
