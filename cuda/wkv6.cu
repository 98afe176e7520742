#include "head_state.h"
#include "ops/wkv6.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// y = Sᵀ r + (r·(u ∘ k)) v,   S = diag(e^w) S + k vᵀ
struct Wkv6Rule {
  Rows<const float> r, k, w;
  global<const float> u;
  int keys;
  bool constant_w;

  enum Vector { kR, kK, kDecay, kBonus };
  static constexpr int kVectors = 4, kScalars = 0;
  static constexpr bool kDiagonal = true;

  __device__ float load(int n, int64_t t, int head, int i) const {
    const int64_t at = int64_t(head) * keys + i;
    switch (n) {
      case kR:
        return r[t][at];
      case kK:
        return k[t][at];
      case kDecay:
        return expf(constant_w ? w[head][i] : w[t][at]);
      default:
        return r[t][at] * u[at] * k[t][at];
    }
  }
  template <class Token>
  __device__ float decay(const Token& x, int i) const {
    return x(kDecay, i);
  }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float y = 0;
    S.each([&](float& s, int i) {
      y += x(kR, i) * s + x(kBonus, i) * v;
      s = x(kDecay, i) * s + x(kK, i) * v;
    });
    return y;
  }
};

}  // namespace

template <>
void run(const Wkv6& op) {
  const int keys = int(op.k[2]);
  launch_heads(Wkv6Rule{op.r, op.k, op.w, global_data<const float>(op.u), keys, op.w.rank == 2}, op.v, op.y, op.state,
               Sequences(op.cu_seqlens, op.slots, op.r[0]), keys);
}

}  // namespace statespace::cuda
