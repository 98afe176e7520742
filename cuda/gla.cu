#include "head_state.h"
#include "ops/gla.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// S = diag(e^g) S + k vᵀ,   y = Sᵀ q / sqrt(key): the one form of both modes
struct GlaRule {
  Rows<const float> q, k, g;
  int keys, heads_per_kv;
  float root;

  enum Vector { kQ, kK, kDecay };
  static constexpr int kVectors = 3, kScalars = 0;
  static constexpr bool kDiagonal = true;

  __device__ float load(int n, int64_t t, int head, int i) const {
    const int64_t at = int64_t(head / heads_per_kv) * keys + i;
    return n == kQ ? root * q[t][int64_t(head) * keys + i] : n == kK ? k[t][at] : expf(g[t][at]);
  }
  __device__ int value_head(int head) const { return head / heads_per_kv; }
  template <class Token>
  __device__ float decay(const Token& x, int i) const {
    return x(kDecay, i);
  }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float y = 0;
    S.each([&](float& s, int i) {
      s = x(kDecay, i) * s + x(kK, i) * v;
      y += x(kQ, i) * s;
    });
    return y;
  }
};

}  // namespace

template <>
void run(const Gla& op) {
  const int keys = int(op.k[2]);
  launch_heads(GlaRule{op.q, op.k, op.g, keys, int(op.q[1] / op.k[1]), 1 / std::sqrt(float(keys))}, op.v, op.y,
               op.state, Sequences(op.cu_seqlens, op.slots, op.q[0]), keys);
}

}  // namespace statespace::cuda
