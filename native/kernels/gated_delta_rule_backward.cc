#include "backend/kernels.h"
#include "kernels/delta_gradient.h"
#include "kernels/head_gradient.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {
namespace {

// dq and dk of every head of v (tokens, nheads, key), to be summed over those that share one of k.
struct Sums {
  float *dq, *dk;
};

// Decays by key, token by token: R = diag(e^g) S_{t-1},  error = v - Rᵀk,  S_t = R + β k errorᵀ,
// y_t = S_tᵀ q / sqrt(key); rows of S are keys, loops are over values.
template <class Loop>
void gradients(const GatedDeltaRuleBackward& op, Context& cx, const HeadShape& shape, const Sums& totals, Loop loop) {
  const int64_t heads_k = op.q[1], keys = op.q[2], nheads = op.v[1], values = op.v[2], width = shape.width;
  const int64_t group = nheads / heads_k;
  const float scale = 1 / ::sqrtf(float(keys));
  auto key = [&](const Tensor& x, int64_t h, int64_t t) { return x.row(t) + h / group * keys; };
  // e^g of a token's keys
  auto decays_of = [&](int64_t h, int64_t t, float* to) {
    const float* g = op.g.row(t) + h * keys;
    for (int64_t i = 0; i < keys; i += kLanes) store(to + i, exp(load(g + i, lanes_of(keys - i))));
  };
  auto error_of = [&](int64_t h, int64_t t, const float* S, const float* decay, float* memory) {
    load_padded(op.v.row(t) + h * values, values, memory);
    auto error = loop.read(memory, memory);
    const float* k = key(op.k, h, t);
    for (int64_t i = 0; i < keys; ++i, S += width) {
      const F factor = set(decay[i] * k[i]);
      loop.each([&](int c) { error.set(c, fnma(factor, load(S + c * kLanes), error.get(c))); });
    }
    return error;
  };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* own) {
    float* decay = own;
    const float beta = op.beta.row(t)[h], *k = key(op.k, h, t);
    decays_of(h, t, decay);
    const auto error = error_of(h, t, S, decay, decay + whole_vectors(keys));
    for (int64_t i = 0; i < keys; ++i, S += width, next += width) {
      const F kept = set(decay[i]), written = set(beta * k[i]);
      loop.each([&](int c) { store(next + c * kLanes, fma(kept, load(S + c * kLanes), written * error.get(c))); });
    }
  };
  auto backward = [&](int64_t, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    float *decay = own, *memory = decay + whole_vectors(keys);
    const float beta = op.beta.row(t)[h], *q = key(op.q, h, t), *k = key(op.k, h, t);
    decays_of(h, t, decay);
    const auto error = error_of(h, t, S, decay, memory);
    load_padded(op.dy.row(t) + h * values, values, memory + width);
    const auto dy = loop.read(memory + width, memory + width);
    auto dv = loop.zeros(memory + 2 * width);  // first of β·error
    for (int64_t i = 0; i < keys; ++i) {
      float* g = G + i * width;
      const float* after = behind + i * width;
      const F query = set(q[i] * scale), held = set(k[i]);
      const float product = loop.sum_of([&](int c, F total) {
        const F gradient = fma(query, dy.get(c), load(g + c * kLanes));
        store(g + c * kLanes, gradient);
        dv.set(c, fma(held, gradient, dv.get(c)));
        return fma(load(after + c * kLanes), dy.get(c), total);
      });
      totals.dq[(t * nheads + h) * keys + i] = scale * product;
    }
    const float dbeta = loop.sum_of([&](int c, F total) { return fma(dv.get(c), error.get(c), total); });
    loop.each([&](int c) { dv.set(c, set(beta) * dv.get(c)); });
    for (int64_t i = 0; i < keys; ++i) {
      const float* row = S + i * width;
      float* g = G + i * width;
      const F kept = set(decay[i]), held = set(k[i]), write = set(beta);
      F product = zero(), slope = zero();
      loop.each([&](int c) {
        const F gradient = load(g + c * kLanes), R = kept * load(row + c * kLanes);
        product = fma(write * gradient, error.get(c), fnma(R, dv.get(c), product));
        const F dR = fnma(held, dv.get(c), gradient);
        slope = fma(dR, R, slope);
        store(g + c * kLanes, kept * dR);
      });
      totals.dk[(t * nheads + h) * keys + i] = sum(product);
      if (op.dg) op.dg.row(t)[h * keys + i] = sum(slope);
    }
    loop.write(dv, memory + 2 * width);
    if (op.dv) store_padded(memory + 2 * width, values, op.dv.row(t) + h * values);
    if (op.dbeta) op.dbeta.row(t)[h] = dbeta;
  };
  each_head_backwards(cx, {op.cu_seqlens, op.q[0], nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      whole_vectors(keys) + 3 * width, forward, backward);
}

// One decay for all keys of a head.
void chunks(const GatedDeltaRuleBackward& op, Context& cx) {
  const int64_t tokens = op.q[0], heads_k = op.q[1], keys = op.q[2], nheads = op.v[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  // Where every head has its own keys their gradients are written where they belong.
  Tensor dq = op.dq, dk = op.dk;
  if (nheads != heads_k) {
    float* sums = cx.kept<float>(2 * tokens * nheads * keys);
    for (Tensor* each : {&dq, &dk}) {
      if (!*each) continue;
      each->data = each == &dq ? sums : sums + tokens * nheads * keys;
      each->row_stride = nheads * keys, each->shape[1] = nheads;
    }
  }
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    DeltaGradient(op, end - begin, cx.local<float>(worker, DeltaGradient::floats(op, end - begin)))
        .run(cx, s, head, begin, end, dq, dk, head * keys);
  });
  if (nheads == heads_k) return;
  if (op.dq) sum_heads(cx, dq.f32(), tokens, nheads, heads_k, keys, op.dq);
  if (op.dk) sum_heads(cx, dk.f32(), tokens, nheads, heads_k, keys, op.dk);
}

}  // namespace

template <>
void run(const GatedDeltaRuleBackward& op, Context& cx) {
  if (!op.decays_by_key()) return chunks(op, cx);
  const int64_t tokens = op.q[0], heads_k = op.q[1], keys = op.q[2], nheads = op.v[1];
  const HeadShape shape(keys, op.v[2]);
  float* dq = cx.kept<float>(2 * tokens * nheads * keys);
  float* dk = dq + tokens * nheads * keys;
  with_row_loop(shape.width, [&](auto loop) { gradients(op, cx, shape, {dq, dk}, loop); });
  if (op.dq) sum_heads(cx, dq, tokens, nheads, heads_k, keys, op.dq);
  if (op.dk) sum_heads(cx, dk, tokens, nheads, heads_k, keys, op.dk);
}

}  // namespace statespace::STATESPACE_ISA
