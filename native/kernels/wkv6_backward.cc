#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/wkv6.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Wkv6Backward& op, Context& cx) {
  const int64_t tokens = op.r[0], nheads = op.r[1], keys = op.r[2], values = op.v[2];
  const bool varies = op.w.rank == 3;
  const HeadShape shape(keys, values);
  const int64_t sequences = sequence_count(op.cu_seqlens), shared = nheads * keys;
  float* du = cx.kept<float>(2 * sequences * shared);  // by sequence
  float* dw = du + sequences * shared;
  std::memset(du, 0, 2 * sequences * shared * sizeof(float));
  auto decay = [&](int64_t h, int64_t t) { return varies ? op.w.row(t) + h * keys : op.w.row(h); };
  // e^w of a token, in the op's own memory.
  auto decays = [&](int64_t h, int64_t t, float* to) {
    for (int64_t k = 0; k < keys; k += kLanes) store(to + k, exp(load(decay(h, t) + k, lanes_of(keys - k))));
  };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* own) {
    float *e = own, *v = own + whole_vectors(keys);
    decays(h, t, e);
    load_padded(op.v.row(t) + h * values, values, v);
    const float* k = op.k.row(t) + h * keys;
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t c = 0; c < shape.width; c += kLanes)
        store(next + i * shape.width + c, fma(set(e[i]), load(S + i * shape.width + c), set(k[i]) * load(v + c)));
  };
  auto backward = [&](int64_t s, int64_t h, int64_t t, const float* S, const float*, float* G, float* own) {
    float *e = own, *v = e + whole_vectors(keys), *dy = v + shape.width, *dv = dy + shape.width;
    decays(h, t, e);
    load_padded(op.v.row(t) + h * values, values, v);
    load_padded(op.dy.row(t) + h * values, values, dy);
    const float *r = op.r.row(t) + h * keys, *k = op.k.row(t) + h * keys, *u = op.u.row(h);
    F product = zero();
    float bonus = 0;
    for (int64_t c = 0; c < shape.width; c += kLanes) product = fma(load(v + c), load(dy + c), product);
    for (int64_t i = 0; i < keys; ++i) bonus += r[i] * u[i] * k[i];
    const float vdy = sum(product);
    for (int64_t c = 0; c < shape.width; c += kLanes) store(dv + c, set(bonus) * load(dy + c));
    for (int64_t i = 0; i < keys; ++i) {
      const float* row = S + i * shape.width;
      float* g = G + i * shape.width;
      F from_state = zero(), from_gradient = zero(), both = zero();
      for (int64_t c = 0; c < shape.width; c += kLanes) {
        const F state = load(row + c), gradient = load(g + c), y = load(dy + c);
        from_state = fma(state, y, from_state);
        from_gradient = fma(gradient, load(v + c), from_gradient);
        both = fma(gradient, state, both);
        store(dv + c, fma(set(k[i]), gradient, load(dv + c)));
        store(g + c, fma(set(e[i]), gradient, set(r[i]) * y));
      }
      const int64_t at = h * keys + i;
      if (op.dr) op.dr.row(t)[at] = sum(from_state) + u[i] * k[i] * vdy;
      if (op.dk) op.dk.row(t)[at] = sum(from_gradient) + u[i] * r[i] * vdy;
      du[s * shared + at] += r[i] * k[i] * vdy;
      const float slope = e[i] * sum(both);
      if (varies && op.dw) op.dw.row(t)[at] = slope;
      if (!varies) dw[s * shared + at] += slope;
    }
    if (op.dv) store_padded(dv, values, op.dv.row(t) + h * values);
  };
  each_head_backwards(cx, {op.cu_seqlens, tokens, nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      whole_vectors(keys) + 3 * shape.width, forward, backward);
  if (op.du) sum_sequences(du, sequences, shared, op.du.f32());
  if (op.dw && !varies) sum_sequences(dw, sequences, shared, op.dw.f32());
}

}  // namespace statespace::STATESPACE_ISA
