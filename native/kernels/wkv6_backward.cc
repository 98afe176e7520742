#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/wkv6.h"

namespace statespace::STATESPACE_ISA {
namespace {

// What all tokens of a sequence share: (sequences, nheads, key) each.
struct Sums {
  float *du, *dw;
};

// S_t = diag(e^w) S_{t-1} + k vᵀ,  y_t = (S_{t-1} + diag(u) k vᵀ)ᵀ r; rows of S are keys, loops are over values.
template <class Loop>
void gradients(const Wkv6Backward& op, Context& cx, const HeadShape& shape, const Sums& totals, Loop loop) {
  const int64_t nheads = op.r[1], keys = op.r[2], values = op.v[2], width = shape.width, shared = nheads * keys;
  const bool varies = op.w.rank == 3;
  // e^w of a token, in the op's own memory.
  auto decays = [&](int64_t h, int64_t t, float* to) {
    const float* w = varies ? op.w.row(t) + h * keys : op.w.row(h);
    for (int64_t k = 0; k < keys; k += kLanes) store(to + k, exp(load(w + k, lanes_of(keys - k))));
  };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* own) {
    float *e = own, *v = own + whole_vectors(keys);
    decays(h, t, e);
    load_padded(op.v.row(t) + h * values, values, v);
    const float* k = op.k.row(t) + h * keys;
    const auto value = loop.read(v, v);
    for (int64_t i = 0; i < keys; ++i, S += width, next += width) {
      const F decay = set(e[i]), key = set(k[i]);
      loop.each([&](int c) { store(next + c * kLanes, fma(decay, load(S + c * kLanes), key * value.get(c))); });
    }
  };
  auto backward = [&](int64_t s, int64_t h, int64_t t, const float* S, const float*, float* G, float* own) {
    float *e = own, *v = e + whole_vectors(keys), *dy = v + width, *dv_memory = dy + width;
    // A vector for every key, whose lanes are to be summed: S dy, G v and G S.
    float *from_state = dv_memory + width, *from_gradient = from_state + keys * kLanes;
    float *both = from_gradient + keys * kLanes, *sums = both + keys * kLanes;
    decays(h, t, e);
    load_padded(op.v.row(t) + h * values, values, v);
    load_padded(op.dy.row(t) + h * values, values, dy);
    const float *r = op.r.row(t) + h * keys, *k = op.k.row(t) + h * keys, *u = op.u.row(h);
    const auto value = loop.read(v, v), up = loop.read(dy, dy);
    float bonus = 0;
    for (int64_t i = 0; i < keys; ++i) bonus += r[i] * u[i] * k[i];
    const F vdy = set(loop.sum_of([&](int c, F x) { return fma(value.get(c), up.get(c), x); }));
    auto dv = loop.zeros(dv_memory);
    loop.each([&](int c) { dv.set(c, set(bonus) * up.get(c)); });
    for (int64_t i = 0; i < keys; ++i, S += width, G += width) {
      const F decay = set(e[i]), key = set(k[i]), receptance = set(r[i]);
      F Sdy = zero(), Gv = zero(), GS = zero();
      loop.each([&](int c) {
        const F state = load(S + c * kLanes), gradient = load(G + c * kLanes), y = up.get(c);
        Sdy = fma(state, y, Sdy);
        Gv = fma(gradient, value.get(c), Gv);
        GS = fma(gradient, state, GS);
        dv.set(c, fma(key, gradient, dv.get(c)));
        store(G + c * kLanes, fma(decay, gradient, receptance * y));
      });
      store(from_state + i * kLanes, Sdy);
      store(from_gradient + i * kLanes, Gv);
      store(both + i * kLanes, GS);
    }
    loop.write(dv, dv_memory);
    if (op.dv) store_padded(dv_memory, values, op.dv.row(t) + h * values);
    for (float* lanes : {from_state, from_gradient, both}) {
      sum_lanes(lanes, keys, sums);
      std::memcpy(lanes, sums, keys * sizeof(float));
    }
    const int64_t at = h * keys;
    for (int64_t i = 0; i < keys; i += kLanes) {
      const int m = lanes_of(keys - i);
      const F ri = load(r + i, m), ki = load(k + i, m), ui = load(u + i, m) * vdy;
      float *du = totals.du + s * shared + at + i, *dw = totals.dw + s * shared + at + i;
      if (op.dr) store(op.dr.row(t) + at + i, fma(ui, ki, load(from_state + i, m)), m);
      if (op.dk) store(op.dk.row(t) + at + i, fma(ui, ri, load(from_gradient + i, m)), m);
      store(du, fma(ri * ki, vdy, load(du, m)), m);
      const F slope = load(e + i, m) * load(both + i, m);
      if (varies && op.dw) store(op.dw.row(t) + at + i, slope, m);
      if (!varies) store(dw, load(dw, m) + slope, m);
    }
  };
  each_head_backwards(cx, {op.cu_seqlens, op.r[0], nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      2 * whole_vectors(keys) + 3 * width + 3 * keys * kLanes, forward, backward);
}

}  // namespace

template <>
void run(const Wkv6Backward& op, Context& cx) {
  const HeadShape shape(op.r[2], op.v[2]);
  const int64_t sequences = sequence_count(op.cu_seqlens), shared = op.r[1] * op.r[2];
  float* du = cx.kept<float>(2 * sequences * shared);
  float* dw = du + sequences * shared;
  std::memset(du, 0, 2 * sequences * shared * sizeof(float));
  with_row_loop(shape.width, [&](auto loop) { gradients(op, cx, shape, {du, dw}, loop); });
  if (op.du) sum_sequences(du, sequences, shared, op.du.f32());
  if (op.dw && op.w.rank != 3) sum_sequences(dw, sequences, shared, op.dw.f32());
}

}  // namespace statespace::STATESPACE_ISA
