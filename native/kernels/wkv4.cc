#include "ops/wkv4.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// num e^p + v e^q over the larger of the two exponents: one of the weights is 1, the other at most 1.
struct Weights {
  Weights(F p, F q) {
    const F smaller = exp(zero() - abs(p - q));
    const M down = less(p, q);
    top = max(p, q);
    old = select(down, smaller, set(1.f));
    fresh = select(down, set(1.f), smaller);
  }
  F top, old, fresh;
};

// One vector of channels of one sequence.
void channels(const Wkv4& op, int64_t begin, int64_t end, float* state, int64_t c, int m, const Context& cx) {
  const int64_t n = op.k[1];
  const F u = load(op.time_first.f32() + c, m), w = zero() - exp(load(op.time_decay.f32() + c, m));
  F num = load(state + c, m), den = load(state + n + c, m), p = load(state + 2 * n + c, m);
  for (int64_t t = begin; t < end; ++t) {
    cx.check_stop();
    const F k = load(op.k.row(t) + c, m), v = load(op.v.row(t) + c, m);
    const Weights now(p, u + k);
    store(op.y.row(t) + c, fma(now.old, num, now.fresh * v) / fma(now.old, den, now.fresh), m);
    const Weights next(p + w, k);
    num = fma(next.old, num, next.fresh * v);
    den = fma(next.old, den, next.fresh);
    p = next.top;
  }
  store(state + c, num, m), store(state + n + c, den, m), store(state + 2 * n + c, p, m);
}

}  // namespace

template <>
void run(const Wkv4& op, Context& cx) {
  const int64_t n = op.k[1], blocks = ceil_div(n, kLanes);
  const Sequences sequences(op.cu_seqlens, op.slots, op.k[0]);
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int) {
    const int64_t s = i / blocks, c = i % blocks * kLanes;
    channels(op, sequences.begin(s), sequences.end(s), op.state.row(sequences.slot(s)), c,
             n - c < kLanes ? int(n - c) : kLanes, cx);
  });
}

}  // namespace statespace::STATESPACE_ISA
