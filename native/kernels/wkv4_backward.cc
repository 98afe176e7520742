#include <cfloat>
#include <cstring>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/wkv4.h"

namespace statespace::STATESPACE_ISA {
namespace {

// num and den over e^p, or their adjoints times e^-p.
struct Sums {
  F a, b, p;
  void read(const float* from) { a = load(from), b = load(from + kLanes), p = load(from + 2 * kLanes); }
  void write(float* to) const { store(to, a), store(to + kLanes, b), store(to + 2 * kLanes, p); }
  // The sums times e^shift, and e^exponent · (x, y) more.
  void add(F shift, F exponent, F x, F y) {
    const F top = max(p + shift, exponent), old = exp(p + shift - top), more = exp(exponent - top);
    a = fma(old, a, more * x), b = fma(old, b, more * y), p = top;
  }
};

// A vector of channels of one sequence; dw and du are added to.
void sequence(const Wkv4Backward& op, int64_t begin, int64_t end, int64_t c, int n, const float* initial,
              float* dinitial, float* states, F& dw, F& du, const Context& cx) {
  const F w = zero() - exp(load(op.time_decay.f32() + c, n)), u = load(op.time_first.f32() + c, n);
  const int64_t channels = op.k[1];
  Sums sums{zero(), zero(), set(-1e38f)};
  if (initial) sums = {load(initial + c, n), load(initial + channels + c, n), load(initial + 2 * channels + c, n)};
  const Sums first = sums;
  for (int64_t t = begin; t < end; ++t) {
    cx.check_stop();
    sums.write(states + (t - begin) * 3 * kLanes);
    sums.add(w, load(op.k.row(t) + c, n), load(op.v.row(t) + c, n), set(1.f));
  }
  Sums adjoint{zero(), zero(), set(-1e38f)};
  for (int64_t t = end - 1; t >= begin; --t) {
    cx.check_stop();
    sums.read(states + (t - begin) * 3 * kLanes);
    const F k = load(op.k.row(t) + c, n), v = load(op.v.row(t) + c, n), dy = load(op.dy.row(t) + c, n);
    const F top = max(sums.p, u + k), old = exp(sums.p - top), own = exp(u + k - top);
    const F Q = fma(old, sums.b, own), y = fma(old, sums.a, own * v) / Q, g = dy / Q;
    const F e = own * g * (v - y), back = exp(k + adjoint.p);  // e^k n is back · adjoint.a
    if (op.dv) store(op.dv.row(t) + c, fma(own, g, back * adjoint.a), n);
    if (op.dk) store(op.dk.row(t) + c, fma(back, fma(v, adjoint.a, adjoint.b), e), n);
    du = du + e;
    dw = fma(exp(min(set(80.f), w + sums.p + adjoint.p)), fma(adjoint.a, sums.a, adjoint.b * sums.b), dw);
    adjoint.add(w, zero() - top, g, zero() - g * y);
  }
  if (!dinitial) return;
  const F scale = exp(min(set(80.f), adjoint.p + first.p));
  const F da = scale * adjoint.a, db = scale * adjoint.b;
  store(dinitial + c, da, n);
  store(dinitial + channels + c, db, n);
  store(dinitial + 2 * channels + c, fma(da, first.a, db * first.b), n);
}

}  // namespace

template <>
void run(const Wkv4Backward& op, Context& cx) {
  const int64_t channels = op.k[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), op.k[0]);
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s)
    longest = std::max<int64_t>(longest, sequences.end(s) - sequences.begin(s));
  cx.parallel_for(ceil_div(channels, kLanes), [&](int64_t i, int worker) {
    const int64_t c = i * kLanes;
    const int n = lanes_of(channels - c);
    float* states = cx.local<float>(worker, longest * 3 * kLanes);
    F dw = zero(), du = zero();
    for (int64_t s = 0; s < sequences.count; ++s)
      sequence(op, sequences.begin(s), sequences.end(s), c, n, op.initial_state ? op.initial_state.row(s) : nullptr,
               op.dinitial_state ? op.dinitial_state.row(s) : nullptr, states, dw, du, cx);
    if (op.dtime_decay) {
      // Of a reset dw is 0, and 0 times infinity would be NaN.
      const F rate = min(set(FLT_MAX), exp(load(op.time_decay.f32() + c, n)));
      store(op.dtime_decay.f32() + c, zero() - rate * dw, n);
    }
    if (op.dtime_first) store(op.dtime_first.f32() + c, du, n);
  });
}

}  // namespace statespace::STATESPACE_ISA
