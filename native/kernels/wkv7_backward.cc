#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/wkv7.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Wkv7Backward& op, Context& cx) {
  const int64_t tokens = op.r[0], nheads = op.r[1], keys = op.r[2], values = op.v[2];
  const HeadShape shape(values, keys);
  const int64_t width = shape.width;
  // A token's vectors over keys in the op's own memory: e^w, k, a, b, r, and the sums dr, dk, da, db, dw.
  struct Vectors {
    float *e, *k, *a, *b, *r, *dr, *dk, *da, *db, *dw;
    Vectors(float* own, int64_t width) {
      for (float** each : {&e, &k, &a, &b, &r, &dr, &dk, &da, &db, &dw}) *each = own, own += width;
    }
  };
  auto vectors = [&](int64_t h, int64_t t, float* own) {
    const Vectors v(own, width);
    const int64_t at = h * keys;
    for (int64_t c = 0; c < keys; c += kLanes) store(v.e + c, exp(load(op.w.row(t) + at + c, lanes_of(keys - c))));
    load_padded(op.k.row(t) + at, keys, v.k);
    load_padded(op.a.row(t) + at, keys, v.a);
    load_padded(op.b.row(t) + at, keys, v.b);
    load_padded(op.r.row(t) + at, keys, v.r);
    return v;
  };
  auto forward = [&](int64_t, int64_t h, int64_t t, const float* S, float* next, float* own) {
    const Vectors v = vectors(h, t, own);
    const float* value = op.v.row(t) + h * values;
    for (int64_t i = 0; i < values; ++i) {
      const float* row = S + i * width;
      F removed = zero();
      for (int64_t c = 0; c < width; c += kLanes) removed = fma(load(row + c), load(v.a + c), removed);
      const F sa = set(sum(removed)), x = set(value[i]);
      for (int64_t c = 0; c < width; c += kLanes)
        store(next + i * width + c, fma(load(row + c), load(v.e + c), fma(sa, load(v.b + c), x * load(v.k + c))));
    }
  };
  auto backward = [&](int64_t, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    const Vectors v = vectors(h, t, own);
    const float *value = op.v.row(t) + h * values, *dy = op.dy.row(t) + h * values;
    std::memset(v.dr, 0, 5 * width * sizeof(float));
    for (int64_t i = 0; i < values; ++i) {
      const float *row = S + i * width, *after = behind + i * width;
      float* g = G + i * width;
      const F up = set(dy[i]), x = set(value[i]);
      F removed = zero(), written = zero(), added = zero();
      for (int64_t c = 0; c < width; c += kLanes) {
        const F gradient = fma(up, load(v.r + c), load(g + c));
        store(g + c, gradient);
        store(v.dr + c, fma(up, load(after + c), load(v.dr + c)));
        store(v.dk + c, fma(x, gradient, load(v.dk + c)));
        removed = fma(load(row + c), load(v.a + c), removed);
        written = fma(gradient, load(v.b + c), written);
        added = fma(gradient, load(v.k + c), added);
      }
      const F sa = set(sum(removed)), gb = set(sum(written));
      if (op.dv) op.dv.row(t)[h * values + i] = sum(added);
      for (int64_t c = 0; c < width; c += kLanes) {
        const F gradient = load(g + c), state = load(row + c);
        store(v.da + c, fma(gb, state, load(v.da + c)));
        store(v.db + c, fma(sa, gradient, load(v.db + c)));
        store(v.dw + c, fma(gradient, state, load(v.dw + c)));
        store(g + c, fma(gradient, load(v.e + c), gb * load(v.a + c)));
      }
    }
    for (int64_t c = 0; c < width; c += kLanes) store(v.dw + c, load(v.dw + c) * load(v.e + c));
    const int64_t at = h * keys;
    if (op.dr) store_padded(v.dr, keys, op.dr.row(t) + at);
    if (op.dk) store_padded(v.dk, keys, op.dk.row(t) + at);
    if (op.da) store_padded(v.da, keys, op.da.row(t) + at);
    if (op.db) store_padded(v.db, keys, op.db.row(t) + at);
    if (op.dw) store_padded(v.dw, keys, op.dw.row(t) + at);
  };
  each_head_backwards(cx, {op.cu_seqlens, tokens, nheads, op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      10 * width, forward, backward);
}

}  // namespace statespace::STATESPACE_ISA
