#pragma once
// The mean over tokens of -log softmax(logits)[target], and what replaces a target of ignoreIndex by nothing: neither a
// loss nor one more to divide by. labelSmoothing ε makes the target (1 - ε) onehot + ε / vocab. Without a single target
// the loss is 0 (torch gives NaN), and so is its gradient. lse is the logarithm of a row's Σ e^logit.
#include "core/error.h"
#include "core/fields.h"

namespace statespace {

struct CrossEntropy {
  static constexpr const char* kName = "crossEntropy";
  Tensor logits, targets, loss, lse;
  int64_t ignore_index = -100;
  float label_smoothing = 0;

  template <class V>
  void fields(V& v) {
    v.in("logits", logits, "outputs vocab");
    v.runtime("targets", targets, "outputs");
    v.out("loss", loss, "1");
    v.wanted("lse", lse, "outputs");
    v.attr("ignoreIndex", ignore_index);
    v.attr("labelSmoothing", label_smoothing);
  }
};

// dlogits = dloss / n · (softmax - (1 - ε) onehot - ε / vocab) over the n targets that count, 0 for the others.
struct CrossEntropyBackward {
  static constexpr const char* kName = "crossEntropyBackward";
  using GradientOf = CrossEntropy;
  Tensor logits, targets, lse, dloss, dlogits;
  int64_t ignore_index = -100;
  float label_smoothing = 0;

  template <class V>
  void fields(V& v) {
    v.in("logits", logits, "outputs vocab");
    v.runtime("targets", targets, "outputs");
    v.optional("lse", lse, "outputs");
    v.in("dloss", dloss, "1");
    v.wanted("dlogits", dlogits, "outputs vocab");
    v.attr("ignoreIndex", ignore_index);
    v.attr("labelSmoothing", label_smoothing);
  }
};

// The same loss of logits = scale · (x·weightᵀ + bias), a block of tokens at a time, so that the logits are never
// whole. The gradients of its inputs come in the same pass, which has the logits at hand: times dloss where that is
// given. accumulate adds dweight and dbias to what is there. divisor divides in place of the number of targets, where
// one batch is computed in parts: the losses of the parts then add up to its mean.
struct LinearCrossEntropy {
  static constexpr const char* kName = "linearCrossEntropy";
  Tensor x, weight, bias, targets, dloss, divisor, loss, dx, dweight, dbias;
  int64_t ignore_index = -100;
  float label_smoothing = 0;
  float scale = 1;
  bool accumulate = false;

  template <class V>
  void fields(V& v) {
    v.in("x", x, "outputs d_model", kFloats);
    v.in("weight", weight, "vocab d_model", kWeights);
    v.optional("bias", bias, "vocab");
    v.runtime("targets", targets, "outputs");
    v.optional("dloss", dloss, "1");
    v.optional("divisor", divisor, "1");
    v.out("loss", loss, "1");
    v.wanted("dx", dx, "outputs d_model");
    v.wanted("dweight", dweight, "vocab d_model");
    v.wanted("dbias", dbias, "vocab");
    v.attr("ignoreIndex", ignore_index);
    v.attr("labelSmoothing", label_smoothing);
    v.attr("scale", scale);
    v.attr("accumulate", accumulate);
  }
};

}  // namespace statespace
