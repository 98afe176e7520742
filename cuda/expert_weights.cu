#include "elementary.h"
#include "ops/expert_weights.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;

struct WeightArgs {
  Rows<const float> logits;
  global<const float> bias;
  Rows<float> y;
  int64_t tokens;
  int experts, columns, groups, topk_groups, top_k;
  bool softmax, renormalize;
  float eps, scale;
};

struct Best {
  float value;
  int index;  // -1: none

  // The larger, ties to the lower index.
  __device__ Best or_better(const Best& other) const {
    if (other.index < 0) return *this;
    const bool better = index < 0 || other.value > value || (!(value > other.value) && other.index < index);
    return better ? other : *this;
  }
};

__device__ Best best_of_warp(Best best) {
  for (int mask = 16; mask > 0; mask /= 2) best = best.or_better(shuffle_xor(best, mask));
  return best;
}

__device__ float sum_of_warp(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// Bits of the groups that stay. Lane g holds the scores of groups g and g + 32.
__device__ uint64_t kept_groups(const WeightArgs& a, const global<float>& s) {
  if (a.groups == 1) return 1;
  const int size = a.experts / a.groups;
  uint64_t kept = 0;
  for (int k = 0; k < a.topk_groups; ++k) {
    Best best{0, -1};
    for (int g = lane(); g < a.groups; g += 32) {
      if (kept >> g & 1) continue;
      float first = -INFINITY, second = -INFINITY;
      for (int e = g * size; e < (g + 1) * size; ++e) {
        const float c = s[e] + (a.bias ? a.bias[e] : 0.f);
        if (c > first)
          second = first, first = c;
        else if (c > second)
          second = c;
      }
      best = best.or_better({size > 1 ? first + second : first, g});
    }
    kept |= uint64_t(1) << best_of_warp(best).index;
  }
  return kept;
}

// One token a warp.
__global__ void __launch_bounds__(kThreads) expert_weights(WeightArgs a) {
  const int64_t t = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  if (t >= a.tokens) return;  // the whole warp
  const global<const float> logits = a.logits[t];
  const global<float> s = a.y[t];
  float top = -INFINITY, all = 0;
  for (int e = lane(); e < a.columns; e += 32) top = fmaxf(top, logits[e]);
  for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, shuffle_xor(top, mask));
  for (int e = lane(); e < a.columns; e += 32) all += expf(logits[e] - top);
  all = sum_of_warp(all);
  for (int e = lane(); e < a.columns; e += 32) s[e] = a.softmax ? expf(logits[e] - top) / all : sigmoid(logits[e]);
  warp_barrier();

  const uint64_t groups = kept_groups(a, s);
  const int size = a.experts / a.groups;
  uint64_t chosen = 0;  // bit i: this lane's expert lane + 32 i, of at most 2048
  float total = 0;
  for (int k = 0; k < a.top_k; ++k) {
    Best best{0, -1};
    for (int i = 0, e = lane(); e < a.experts; ++i, e += 32)
      if ((groups >> e / size & 1) && !(chosen >> i & 1)) best = best.or_better({s[e] + (a.bias ? a.bias[e] : 0.f), e});
    best = best_of_warp(best);
    total += s[best.index];
    if (best.index % 32 == lane()) chosen |= uint64_t(1) << best.index / 32;
  }
  for (int e = a.experts; e < a.columns; ++e) total += s[e];
  warp_barrier();  // all have read s
  const float scale = a.renormalize ? a.scale / (total + a.eps) : a.scale;
  for (int i = 0, e = lane(); e < a.columns; ++i, e += 32)
    s[e] = e >= a.experts || (chosen >> i & 1) ? s[e] * scale : 0;
}

}  // namespace

template <>
void run(const ExpertWeights& op) {
  const int64_t tokens = op.logits[0];
  if (tokens == 0) return;
  const WeightArgs args{op.logits,         global_data<const float>(op.bias),
                        op.weights,        tokens,
                        int(op.experts()), int(op.logits[1]),
                        int(op.groups),    int(op.topk_groups),
                        int(op.top_k),     op.score == 0,
                        op.renormalize,    op.eps,
                        op.scale};
  launch(expert_weights, {ceil_div(tokens, kThreads / 32)}, kThreads, args);
}

}  // namespace statespace::cuda
