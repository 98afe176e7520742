#include "head_state.h"
#include "ops/retention.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// S = γ S + k vᵀ,   y = scale · Sᵀ q: the one form of all modes
struct RetentionRule {
  Rows<const float> q, k;
  global<const float> log_decay;
  int keys;
  float factor;

  enum Vector { kQ, kK };
  static constexpr int kVectors = 2, kScalars = 1;
  static constexpr bool kDiagonal = true;

  __device__ float load(int n, int64_t t, int head, int i) const {
    const int64_t at = int64_t(head) * keys + i;
    return n == kQ ? factor * q[t][at] : k[t][at];
  }
  __device__ float scalar(int, int64_t, int head) const { return expf(log_decay[head]); }
  template <class Token>
  __device__ float decay(const Token& x, int) const {
    return x.scalar(0);
  }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float y = 0;
    S.each([&](float& s, int i) {
      s = x.scalar(0) * s + x(kK, i) * v;
      y += x(kQ, i) * s;
    });
    return y;
  }
};

}  // namespace

template <>
void run(const Retention& op) {
  const int keys = int(op.k[2]);
  launch_heads(RetentionRule{op.q, op.k, global_data<const float>(op.log_decay), keys, op.scaling()}, op.v, op.y,
               op.state, Sequences(op.cu_seqlens, op.slots, op.q[0]), keys);
}

}  // namespace statespace::cuda
