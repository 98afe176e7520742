#include "backend/kernels.h"
#include "kernels/delta_gradient.h"
#include "kernels/head_sums.h"
#include "kernels/kept_rows.h"
#include "kernels/key_decay_gradient.h"
#include "kernels/rows.h"
#include "kernels/streamed_rows.h"
#include "ops/gated_delta_rule.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Decays by key in the form of KeyDecayGradient: x_t = v_t + S_{t-1}ᵀ a_t with a = -d k, b = β k, r = d q and p = q·b
// for the scaled q. What q, k, β and a token's own decay get of those is added here.
class KeyedHead {
 public:
  KeyedHead(const GatedDeltaRuleBackward& op, int64_t begin, int64_t head, KeyDecayGradient& chunk, const Tensor& dq,
            const Tensor& dk)
      : op_(op),
        c_(chunk),
        dq_(dq),
        dk_(dk),
        begin_(begin),
        head_(head),
        at_(head * chunk.keys),
        shared_(head / (op.v[1] / op.k[1]) * chunk.keys),
        scale_(1 / ::sqrtf(float(chunk.keys))),
        streamed_(streams_rows({&dq, &dk, &op.dg, &op.dv}, {chunk.keys, chunk.values})) {}

  void read(int64_t begin, int64_t n, bool forward) {
    const bool passes = forward && op_.innovations;  // no more than a state
    for (int64_t t = 0; t < n; ++t) {
      const float *g = op_.g.row(begin + t) + at_, *from_k = op_.k.row(begin + t) + shared_;
      const float* from_q = op_.q.row(begin + t) + shared_;
      const F beta = set(op_.beta.row(begin + t)[head_]);
      F own = zero();
      each_vector([&](int64_t i, auto... m) {
        const int64_t to = t * c_.width + i;
        const F d = exp(load(g + i, m...)), k = load(from_k + i, m...), b = beta * k;
        store(c_.d + to, d);
        store(c_.b + to, b);
        if (passes) return;
        store(c_.a + to, zero() - d * k);
        if (forward) return;
        const F q = set(scale_) * load(from_q + i, m...);
        own = fma(q, b, own);
        store(c_.r + to, d * q);
      });
      if (!forward) c_.x_own[t] = sum(own);
    }
    if (!op_.innovations) copy_rows(op_.v, begin, n, head_ * c_.values, c_.values, c_.v, c_.stride);
    if (!forward) copy_rows(op_.dy, begin, n, head_ * c_.values, c_.values, c_.dy, c_.stride);
  }

  void know(int64_t begin, int64_t n, float* X) const {
    copy_rows(op_.innovations, begin, n, head_ * c_.values, c_.values, X, c_.stride);
  }

  Fetch ahead(int64_t begin, int64_t n, bool inputs, bool back) const {
    const int64_t first = head_ * c_.values;
    Fetch fetch(Ahead{begin, begin + n, head_});
    if (inputs) {
      fetch.add(op_.k, shared_, c_.keys), fetch.add(op_.g, at_, c_.keys);
      fetch.add(op_.innovations ? op_.innovations : op_.v, first, c_.values);
    }
    if (!back) return fetch;
    fetch.add(op_.q, shared_, c_.keys), fetch.add(op_.dy, first, c_.values);
    if (streamed_) return fetch;
    for (const Tensor* to : {&dq_, &dk_, &op_.dg}) fetch.add(*to, at_, c_.keys);
    fetch.add(op_.dv, first, c_.values);
    return fetch;
  }

  void write(int64_t begin, int64_t n) {
    for (int64_t t = 0; t < n; ++t) {
      const F p = set(c_.dx_own[t]), root = set(scale_), beta = set(op_.beta.row(begin + t)[head_]);
      const float *q = op_.q.row(begin + t) + shared_, *k = op_.k.row(begin + t) + shared_;
      float *dq = row_of(dq_, begin + t), *dk = row_of(dk_, begin + t), *dg = row_of(op_.dg, begin + t);
      F slope = zero();
      each_vector([&](int64_t i, auto... m) {
        const int64_t from = t * c_.width + i;
        auto give = [&](float* gradient, F x) {
          if (gradient) put(gradient + i, x, m...);
        };
        const F d = load(c_.d + from), dr = load(c_.dr + from), da = load(c_.da + from);
        const F db = fma(p * root, load(q + i, m...), load(c_.db + from));
        slope = fma(load(k + i, m...), db, slope);
        give(dq, root * fma(d, dr, p * load(c_.b + from)));
        give(dk, fnma(d, da, beta * db));
        give(dg, fma(load(c_.a + from), da, fma(load(c_.r + from), dr, load(c_.slope + from))));
      });
      if (op_.dbeta) op_.dbeta.row(begin + t)[head_] = sum(slope);
    }
    if (op_.dv) put_rows(c_.dv, c_.stride, op_.dv, begin, n, head_ * c_.values, c_.values, streamed_);
    if (streamed_) end_streams();
  }

 private:
  // fn(i, lanes…) for the vectors of a row of keys, `lanes` where one is no whole vector.
  template <class Fn>
  [[gnu::always_inline]] void each_vector(Fn&& fn) const {
    int64_t i = 0;
    for (; i + kLanes <= c_.keys; i += kLanes) fn(i);
    if (i < c_.keys) fn(i, int(c_.keys - i));
  }
  float* row_of(const Tensor& gradient, int64_t t) const { return gradient ? gradient.row(t) + at_ : nullptr; }
  void put(float* to, F x) const { streamed_ ? stream(to, x) : store(to, x); }
  void put(float* to, F x, int m) const { store(to, x, m); }

  const GatedDeltaRuleBackward& op_;
  KeyDecayGradient& c_;
  const Tensor &dq_, &dk_;
  const int64_t begin_, head_, at_, shared_;  // begin_: of the sequence
  const float scale_;
  const bool streamed_;
};

// One head of one sequence.
void keyed(const GatedDeltaRuleBackward& op, Context& cx, int64_t sequence, int64_t head, int64_t begin, int64_t end,
           int worker, const Tensor& dq, const Tensor& dk) {
  const int64_t keys = op.q[2], values = op.v[2], one = keys * values;
  KeyDecayGradient chunk(keys, values, true, false, end - begin, op.kept(),
                         cx.local<float>(worker, KeyDecayGradient::floats(keys, values, end - begin, op.kept())),
                         bool(op.innovations));
  auto state_of = [&](const Tensor& t) { return t.row(sequence) + head * one; };
  float* first = chunk.first_state();
  if (op.initial_state) read_rows(state_of(op.initial_state), keys, values, first, chunk.stride);
  if (op.dlast_state) read_rows(state_of(op.dlast_state), keys, values, chunk.gradient(), chunk.stride);
  KeyedHead rows(op, begin, head, chunk, dq, dk);
  chunk.run(
      cx, begin, end, [&](int64_t t, int64_t n, bool forward) { rows.read(t, n, forward); },
      [&](int64_t t, int64_t n, bool inputs, bool back) { return rows.ahead(t, n, inputs, back); },
      [&](int64_t t, int64_t n) { rows.write(t, n); },
      [&](int64_t t, float* S) { read_kept(op.states, t, head, keys, values, S, chunk.stride); },
      [&](int64_t t, int64_t n, float* X) { rows.know(t, n, X); });
  if (op.dinitial_state) write_rows(chunk.gradient(), chunk.stride, keys, values, state_of(op.dinitial_state));
}

}  // namespace

template <>
void run(const GatedDeltaRuleBackward& op, Context& cx) {
  const int64_t tokens = op.q[0], keys = op.q[2], nheads = op.v[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const HeadSums sums(cx, nheads, {&op.dq, &op.dk});
  const Tensor &dq = sums[0], &dk = sums[1];
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    if (op.decays_by_key()) return keyed(op, cx, s, head, begin, end, worker, dq, dk);
    DeltaGradient(op, end - begin, cx.local<float>(worker, DeltaGradient::floats(op, end - begin)))
        .run(cx, s, head, begin, end, dq, dk, head * keys);
  });
  sums.finish();
}

}  // namespace statespace::STATESPACE_ISA
