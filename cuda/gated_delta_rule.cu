#include "head_state.h"
#include "ops/gated_delta_rule.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// S = e^g S,   S += k (β (v - Sᵀ k))ᵀ,   y = Sᵀ q / sqrt(key)
struct DeltaRule {
  Rows<const float> q, k, g, beta;
  int keys, heads_per_key_head;
  float root;

  enum Vector { kQ, kK };
  enum Scalar { kDecay, kBeta };
  static constexpr int kVectors = 2, kScalars = 2;
  static constexpr bool kDiagonal = false;

  __device__ float load(int n, int64_t t, int head, int i) const {
    const int64_t at = int64_t(head / heads_per_key_head) * keys + i;
    return n == kQ ? root * q[t][at] : k[t][at];
  }
  __device__ float scalar(int n, int64_t t, int head) const { return n == kDecay ? expf(g[t][head]) : beta[t][head]; }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float held = 0, y = 0;
    S.each([&](float& s, int i) {
      s *= x.scalar(kDecay);
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

}  // namespace

template <>
void run(const GatedDeltaRule& op) {
  const int keys = int(op.k[2]);
  launch_heads(DeltaRule{op.q, op.k, op.g, op.beta, keys, int(op.v[1] / op.k[1]), 1 / std::sqrt(float(keys))}, op.v,
               op.y, op.state, Sequences(op.cu_seqlens, op.slots, op.q[0]), keys);
}

}  // namespace statespace::cuda
