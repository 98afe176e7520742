#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/retention.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const RetentionBackward& op, Context& cx) {
  const int64_t tokens = op.q[0], nheads = op.q[1], keys = op.q[2], values = op.v[2];
  const int64_t sequences = sequence_count(op.cu_seqlens);
  const HeadShape shape(keys, values);
  const int64_t width = shape.width;
  const float scale = op.scaling();
  float* dlog = cx.kept<float>(sequences * nheads);
  std::memset(dlog, 0, sequences * nheads * sizeof(float));
  auto gamma = [&](int64_t h) { return ::expf(op.log_decay.f32()[h]); };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* v) {
    load_padded(op.v.row(t) + h * values, values, v);
    const float* k = op.k.row(t) + h * keys;
    const F decay = set(gamma(h));
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t c = 0; c < width; c += kLanes)
        store(next + i * width + c, fma(decay, load(S + i * width + c), set(k[i]) * load(v + c)));
  };
  auto backward = [&](int64_t s, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    float *v = own, *dy = v + width, *dv = dy + width;
    load_padded(op.v.row(t) + h * values, values, v);
    load_padded(op.dy.row(t) + h * values, values, dy);
    for (int64_t c = 0; c < width; c += kLanes) store(dv + c, zero());
    const float *q = op.q.row(t) + h * keys, *k = op.k.row(t) + h * keys, decay = gamma(h);
    F slope = zero();
    for (int64_t i = 0; i < keys; ++i) {
      const float *row = S + i * width, *after = behind + i * width;
      float* g = G + i * width;
      F dq = zero(), dk = zero();
      for (int64_t c = 0; c < width; c += kLanes) {
        const F up = load(dy + c), gradient = fma(set(q[i] * scale), up, load(g + c));
        dq = fma(load(after + c), up, dq);
        dk = fma(gradient, load(v + c), dk);
        slope = fma(gradient, load(row + c), slope);
        store(dv + c, fma(set(k[i]), gradient, load(dv + c)));
        store(g + c, set(decay) * gradient);
      }
      if (op.dq) op.dq.row(t)[h * keys + i] = scale * sum(dq);
      if (op.dk) op.dk.row(t)[h * keys + i] = sum(dk);
    }
    if (op.dv) store_padded(dv, values, op.dv.row(t) + h * values);
    dlog[s * nheads + h] += decay * sum(slope);
  };
  each_head_backwards(cx, {op.cu_seqlens, tokens, nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      3 * width, forward, backward);
  if (op.dlog_decay) sum_sequences(dlog, sequences, nheads, op.dlog_decay.f32());
}

}  // namespace statespace::STATESPACE_ISA
