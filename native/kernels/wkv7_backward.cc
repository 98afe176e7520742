#include "backend/kernels.h"
#include "kernels/head_gradient.h"
#include "ops/wkv7.h"

namespace statespace::STATESPACE_ISA {
namespace {

// A token's vectors over keys in the op's own memory: e^w, k, a, b, r, and the sums dr, dk, da, db, dw; S a and the
// gradient of it by value, dv; a vector of each for every value, whose lanes are to be summed.
struct Vectors {
  float *e, *k, *a, *b, *r, *dr, *dk, *da, *db, *dw, *along, *gb, *dv, *lanes;
  static int64_t floats(int64_t width, int64_t values) { return 10 * width + (3 + 3 * kLanes) * whole_vectors(values); }
  Vectors(float* own, int64_t width, int64_t values) {
    for (float** each : {&e, &k, &a, &b, &r, &dr, &dk, &da, &db, &dw}) *each = own, own += width;
    for (float** each : {&along, &gb, &dv}) *each = own, own += whole_vectors(values);
    lanes = own;
  }
};

// S_t = S_{t-1} diag(e^w) + (S_{t-1} a) bᵀ + v kᵀ,  y_t = S_t r; rows of S are values, loops are over keys.
template <class Loop>
void gradients(const Wkv7Backward& op, Context& cx, const HeadShape& shape, Loop loop) {
  const int64_t keys = op.r[2], values = op.v[2], width = shape.width;
  auto vectors = [&](int64_t h, int64_t t, float* own) {
    const Vectors v(own, width, values);
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
    const auto e = loop.read(v.e, v.e), k = loop.read(v.k, v.k), a = loop.read(v.a, v.a), b = loop.read(v.b, v.b);
    for (int64_t i = 0; i < values; ++i, S += width, next += width) {
      const F along = set(loop.sum_of([&](int c, F s) { return fma(load(S + c * kLanes), a.get(c), s); }));
      const F x = set(value[i]);
      loop.each([&](int c) {
        const F added = fma(along, b.get(c), x * k.get(c));
        store(next + c * kLanes, fma(load(S + c * kLanes), e.get(c), added));
      });
    }
  };
  // G += dy rᵀ, dr, dk, and by value S a, G b and G k.
  auto outputs = [&](const Vectors& v, int64_t h, int64_t t, const float* S, const float* behind, float* G) {
    const float *value = op.v.row(t) + h * values, *dy = op.dy.row(t) + h * values;
    const auto r = loop.read(v.r, v.r), k = loop.read(v.k, v.k), a = loop.read(v.a, v.a), b = loop.read(v.b, v.b);
    auto dr = loop.zeros(v.dr), dk = loop.zeros(v.dk);
    float *lanes_along = v.lanes, *lanes_gb = lanes_along + values * kLanes, *lanes_dv = lanes_gb + values * kLanes;
    for (int64_t i = 0; i < values; ++i, S += width, behind += width, G += width) {
      const F up = set(dy[i]), x = set(value[i]);
      F along = zero(), written = zero(), added = zero();
      loop.each([&](int c) {
        const F gradient = fma(up, r.get(c), load(G + c * kLanes));
        store(G + c * kLanes, gradient);
        dr.set(c, fma(up, load(behind + c * kLanes), dr.get(c)));
        dk.set(c, fma(x, gradient, dk.get(c)));
        along = fma(load(S + c * kLanes), a.get(c), along);
        written = fma(gradient, b.get(c), written);
        added = fma(gradient, k.get(c), added);
      });
      store(lanes_along + i * kLanes, along);
      store(lanes_gb + i * kLanes, written);
      store(lanes_dv + i * kLanes, added);
    }
    sum_lanes(lanes_along, values, v.along);
    sum_lanes(lanes_gb, values, v.gb);
    sum_lanes(lanes_dv, values, v.dv);
    if (op.dv) store_padded(v.dv, values, op.dv.row(t) + h * values);
    loop.write(dr, v.dr), loop.write(dk, v.dk);
  };
  // da, db, dw, and G of the state before.
  auto through = [&](const Vectors& v, const float* S, float* G) {
    const auto e = loop.read(v.e, v.e), a = loop.read(v.a, v.a);
    auto da = loop.zeros(v.da), db = loop.zeros(v.db), dw = loop.zeros(v.dw);
    for (int64_t i = 0; i < values; ++i, S += width, G += width) {
      const F along = set(v.along[i]), gb = set(v.gb[i]);
      loop.each([&](int c) {
        const F gradient = load(G + c * kLanes), state = load(S + c * kLanes);
        da.set(c, fma(gb, state, da.get(c)));
        db.set(c, fma(along, gradient, db.get(c)));
        dw.set(c, fma(gradient, state, dw.get(c)));
        store(G + c * kLanes, fma(gradient, e.get(c), gb * a.get(c)));
      });
    }
    loop.write(da, v.da), loop.write(db, v.db);
    loop.each([&](int c) { store(v.dw + c * kLanes, dw.get(c) * e.get(c)); });
  };
  auto backward = [&](int64_t, int64_t h, int64_t t, const float* S, const float* behind, float* G, float* own) {
    const Vectors v = vectors(h, t, own);
    outputs(v, h, t, S, behind, G);
    through(v, S, G);
    const int64_t at = h * keys;
    if (op.dr) store_padded(v.dr, keys, op.dr.row(t) + at);
    if (op.dk) store_padded(v.dk, keys, op.dk.row(t) + at);
    if (op.da) store_padded(v.da, keys, op.da.row(t) + at);
    if (op.db) store_padded(v.db, keys, op.db.row(t) + at);
    if (op.dw) store_padded(v.dw, keys, op.dw.row(t) + at);
  };
  each_head_backwards(cx, {op.cu_seqlens, op.r[0], op.r[1], op.initial_state, op.dlast_state, op.dinitial_state}, shape,
                      Vectors::floats(width, values), forward, backward);
}

}  // namespace

template <>
void run(const Wkv7Backward& op, Context& cx) {
  const HeadShape shape(op.v[2], op.r[2]);
  with_row_loop(shape.width, [&](auto loop) { gradients(op, cx, shape, loop); });
}

}  // namespace statespace::STATESPACE_ISA
