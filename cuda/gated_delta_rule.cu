#include "head_state.h"
#include "ops/gated_delta_rule.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// S = diag(e^g) S,   S += k (β (v - Sᵀ k))ᵀ,   y = Sᵀ q / sqrt(key); g a value per head, or kByKey
template <bool kByKey>
struct DeltaRule {
  Rows<const float> q, k, g, beta;
  int keys, heads_per_key_head;
  float root;

  enum Vector { kQ, kK, kDecays };
  enum Scalar { kBeta, kDecay };
  static constexpr int kVectors = kByKey ? 3 : 2, kScalars = kByKey ? 1 : 2;
  static constexpr bool kDiagonal = false;

  __device__ float load(int n, int64_t t, int head, int i) const {
    if (kByKey && n == kDecays) return expf(g[t][int64_t(head) * keys + i]);
    const int64_t at = int64_t(head / heads_per_key_head) * keys + i;
    return n == kQ ? root * q[t][at] : k[t][at];
  }
  __device__ float scalar(int n, int64_t t, int head) const {
    return n == kBeta ? beta[t][head] : g ? expf(g[t][head]) : 1;
  }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float held = 0, y = 0;
    S.each([&](float& s, int i) {
      s *= kByKey ? x(kDecays, i) : x.scalar(kDecay);
      held += x(kK, i) * s;
    });
    const float change = x.scalar(kBeta) * (v - key_sum(held));
    S.each([&](float& s, int i) {
      s += x(kK, i) * change;
      y += x(kQ, i) * s;
    });
    return y;
  }
};

template <bool kByKey>
void launch_delta(const GatedDeltaRule& op) {
  const int keys = int(op.k[2]);
  launch_heads(DeltaRule<kByKey>{op.q, op.k, op.g, op.beta, keys, int(op.v[1] / op.k[1]), 1 / std::sqrt(float(keys))},
               op.v, op.y, op.state, Sequences(op.cu_seqlens, op.slots, op.q[0]), keys);
}

}  // namespace

template <>
void run(const GatedDeltaRule& op) {
  op.decays_by_key() ? launch_delta<true>(op) : launch_delta<false>(op);
}

}  // namespace statespace::cuda
