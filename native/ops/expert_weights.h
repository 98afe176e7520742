#pragma once
// What routers beyond the plain softmax make of their logits: the weight of every expert for a token, 0 where it is not
// chosen. With s = softmax or sigmoid of the logits and c = s + bias:
//   groups > 1: a group's score is the sum of its two largest c; the topkGroups best groups stay (DeepSeek-V3)
//   chosen = the topK largest c, ties to the lower index;   weight_e = scale · s_e / (Σ s + eps) of the chosen
// or scale · s_e where renormalize is false. The last `shared` columns are experts that every token has: not chosen,
// not biased, but part of the sum (Inkling).
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct ExpertWeights {
  static constexpr const char* kName = "expertWeights";
  Tensor logits, bias, weights;
  int32_t score = 0;
  int64_t top_k = 1;
  int64_t shared = 0;
  int64_t groups = 1;
  int64_t topk_groups = 1;
  bool renormalize = true;
  float eps = 0;
  float scale = 1;

  template <class V>
  void fields(V& v) {
    v.in("logits", logits, "tokens columns");
    v.optional("bias", bias, "experts");
    v.out("weights", weights, "tokens columns");
    v.choice("score", score, "softmax|sigmoid");
    v.attr("topK", top_k);
    v.attr("shared", shared);
    v.attr("groups", groups);
    v.attr("topkGroups", topk_groups);
    v.attr("renormalize", renormalize);
    v.attr("eps", eps);
    v.attr("scale", scale);
  }

  int64_t experts() const { return logits[1] - shared; }

  void check() const {
    auto fail = [](const std::string& what) { throw Error(Code::kArgument, "expertWeights: " + what); };
    const int64_t n = experts();
    if (shared < 0 || n < 1 || n > 2048) fail("1 to 2048 experts besides the shared, not " + std::to_string(n));
    if (groups < 1 || groups > 64 || n % groups != 0)
      fail("groups: 1 to 64 that divide " + std::to_string(n) + " experts, not " + std::to_string(groups));
    if (topk_groups < 1 || topk_groups > groups) fail("topkGroups: expected 1 to groups=" + std::to_string(groups));
    if (top_k < 1 || top_k > n / groups * topk_groups)
      fail("topK: expected 1 to " + std::to_string(n / groups * topk_groups) +
           " experts of the groups that stay, not " + std::to_string(top_k));
    if (bias && bias[0] != n)
      throw Error(Code::kShape, "expertWeights: bias: expected " + std::to_string(n) + " experts, received " +
                                    std::to_string(bias[0]));
  }
};

// Of the chosen and the shared, with T = Σ s + eps of them where they are renormalized, else 1:
//   ds_e = scale / T (dweight_e - Σ_j dweight_j s_j / T),   without renormalize scale dweight_e
// and from the scores to all logits: s_e (1 - s_e) ds_e for the sigmoid, s_e (ds_e - Σ_j s_j ds_j) for the softmax. The
// choice itself has no gradient, nor has the bias, which only chooses.
struct ExpertWeightsBackward {
  static constexpr const char* kName = "expertWeightsBackward";
  using GradientOf = ExpertWeights;
  Tensor logits, bias, dweights, dlogits;
  int32_t score = 0;
  int64_t top_k = 1;
  int64_t shared = 0;
  int64_t groups = 1;
  int64_t topk_groups = 1;
  bool renormalize = true;
  float eps = 0;
  float scale = 1;

  template <class V>
  void fields(V& v) {
    v.in("logits", logits, "tokens columns");
    v.optional("bias", bias, "experts");
    v.in("dweights", dweights, "tokens columns");
    v.wanted("dlogits", dlogits, "tokens columns");
    v.choice("score", score, "softmax|sigmoid");
    v.attr("topK", top_k);
    v.attr("shared", shared);
    v.attr("groups", groups);
    v.attr("topkGroups", topk_groups);
    v.attr("renormalize", renormalize);
    v.attr("eps", eps);
    v.attr("scale", scale);
  }

  ExpertWeights forward() const {
    ExpertWeights op;
    op.logits = logits, op.bias = bias, op.score = score, op.top_k = top_k, op.shared = shared, op.groups = groups;
    op.topk_groups = topk_groups, op.renormalize = renormalize, op.eps = eps, op.scale = scale;
    return op;
  }
  void check() const { forward().check(); }
};

}  // namespace statespace
