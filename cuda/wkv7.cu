#include "elementary.h"
#include "head_state.h"
#include "ops/wkv7.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// S = S diag(e^w) + (S a) bᵀ + v kᵀ,   y = S r;   S is (value, key), its rows the columns of head_state.h
struct Wkv7Rule {
  Rows<const float> r, w, k, a, b;
  int keys;

  enum Vector { kR, kDecay, kK, kA, kB };
  static constexpr int kVectors = 5, kScalars = 0;
  static constexpr bool kDiagonal = false;

  __device__ float load(int n, int64_t t, int head, int i) const {
    const int64_t at = int64_t(head) * keys + i;
    switch (n) {
      case kR:
        return r[t][at];
      case kDecay:
        return expf(w[t][at]);
      case kK:
        return k[t][at];
      case kA:
        return a[t][at];
      default:
        return b[t][at];
    }
  }
  template <class Column, class Token>
  __device__ float step(Column& S, const Token& x, float v) const {
    float held = 0, y = 0;
    S.each([&](float& s, int i) { held += x(kA, i) * s; });
    held = key_sum(held);
    S.each([&](float& s, int i) {
      s = x(kDecay, i) * s + held * x(kB, i) + v * x(kK, i);
      y += x(kR, i) * s;
    });
    return y;
  }
};

}  // namespace

template <>
void run(const Wkv7& op) {
  const int keys = int(op.k[2]);
  launch_heads(Wkv7Rule{op.r, op.w, op.k, op.a, op.b, keys}, op.v, op.y, op.state,
               Sequences(op.cu_seqlens, op.slots, op.r[0]), keys, true);
}

}  // namespace statespace::cuda
