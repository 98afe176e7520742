#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const GatedDeltaRuleBackward& op, Context& cx) {
  const int64_t tokens = op.q[0], heads_k = op.q[1], keys = op.q[2], nheads = op.v[1], values = op.v[2];
  const int64_t group = nheads / heads_k;
  const HeadShape shape(keys, values);
  const int64_t width = shape.width;
  const float scale = 1 / ::sqrtf(float(keys));
  // dq and dk of every head of v, to be summed over those that share one of k.
  float* dq = cx.kept<float>(2 * tokens * nheads * keys);
  float* dk = dq + tokens * nheads * keys;
  auto key = [&](const Tensor& x, int64_t h, int64_t t) { return x.row(t) + h / group * keys; };
  // e^g of a token's keys
  auto decays_of = [&](int64_t h, int64_t t, float* to) {
    const bool by_key = op.decays_by_key();
    for (int64_t i = 0; i < keys; ++i)
      to[i] = !op.g ? 1 : i == 0 || by_key ? ::expf(op.g.row(t)[by_key ? h * keys + i : h]) : to[0];
  };
  // error (width) = v - Rᵀk, with R = diag(e^g) S
  auto error_of = [&](int64_t h, int64_t t, const float* S, const float* decay, float* error) {
    load_padded(op.v.row(t) + h * values, values, error);
    const float* k = key(op.k, h, t);
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t c = 0; c < width; c += kLanes)
        store(error + c, fnma(set(decay[i] * k[i]), load(S + i * width + c), load(error + c)));
  };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* own) {
    float *decay = own, *error = decay + whole_vectors(keys);
    const float beta = op.beta.row(t)[h], *k = key(op.k, h, t);
    decays_of(h, t, decay);
    error_of(h, t, S, decay, error);
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t c = 0; c < width; c += kLanes)
        store(next + i * width + c, fma(set(decay[i]), load(S + i * width + c), set(beta * k[i]) * load(error + c)));
  };
  auto backward = [&](int64_t, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    float *decay = own, *error = decay + whole_vectors(keys), *dy = error + width, *dv = dy + width;
    const float beta = op.beta.row(t)[h], *q = key(op.q, h, t), *k = key(op.k, h, t);
    decays_of(h, t, decay);
    error_of(h, t, S, decay, error);
    load_padded(op.dy.row(t) + h * values, values, dy);
    for (int64_t c = 0; c < width; c += kLanes) store(dv + c, zero());
    for (int64_t i = 0; i < keys; ++i) {
      float* g = G + i * width;
      F product = zero();
      for (int64_t c = 0; c < width; c += kLanes) {
        const F up = load(dy + c), gradient = fma(set(q[i] * scale), up, load(g + c));
        store(g + c, gradient);
        product = fma(load(behind + i * width + c), up, product);
        store(dv + c, fma(set(k[i]), gradient, load(dv + c)));
      }
      dq[(t * nheads + h) * keys + i] = scale * sum(product);
    }
    F dbeta = zero();
    for (int64_t c = 0; c < width; c += kLanes) {
      dbeta = fma(load(dv + c), load(error + c), dbeta);
      store(dv + c, set(beta) * load(dv + c));
    }
    float slopes = 0;
    for (int64_t i = 0; i < keys; ++i) {
      const float* row = S + i * width;
      float* g = G + i * width;
      F product = zero(), slope = zero();
      for (int64_t c = 0; c < width; c += kLanes) {
        const F gradient = load(g + c), R = set(decay[i]) * load(row + c), down = load(dv + c);
        product = fma(set(beta) * gradient, load(error + c), fnma(R, down, product));
        const F dR = fnma(set(k[i]), down, gradient);
        slope = fma(dR, R, slope);
        store(g + c, set(decay[i]) * dR);
      }
      dk[(t * nheads + h) * keys + i] = sum(product);
      if (op.dg && op.decays_by_key())
        op.dg.row(t)[h * keys + i] = sum(slope);
      else
        slopes += sum(slope);
    }
    if (op.dv) store_padded(dv, values, op.dv.row(t) + h * values);
    if (op.dbeta) op.dbeta.row(t)[h] = sum(dbeta);
    if (op.dg && !op.decays_by_key()) op.dg.row(t)[h] = slopes;
  };
  each_head_backwards(cx, {op.cu_seqlens, tokens, nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      whole_vectors(keys) + 3 * width, forward, backward);
  if (op.dq) sum_heads(cx, dq, tokens, nheads, heads_k, keys, op.dq);
  if (op.dk) sum_heads(cx, dk, tokens, nheads, heads_k, keys, op.dk);
}

}  // namespace statespace::STATESPACE_ISA
