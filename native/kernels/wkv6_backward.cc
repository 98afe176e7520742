#include "backend/kernels.h"
#include "kernels/kept_rows.h"
#include "kernels/key_decay_gradient.h"
#include "kernels/rows.h"
#include "kernels/streamed_rows.h"
#include "ops/wkv6.h"

namespace statespace::STATESPACE_ISA {
namespace {

// du and, of decays that all tokens share, dw of one head of one sequence: (key) each.
struct Sums {
  float *du, *dw;
};

// The form of KeyDecayGradient without a and b: what a token's own value gets, r·(u ∘ k), is added here.
class Head {
 public:
  Head(const Wkv6Backward& op, int64_t head, const Sums& sums, KeyDecayGradient& chunk)
      : op_(op),
        c_(chunk),
        sums_(sums),
        head_(head),
        at_(head * chunk.keys),
        varies_(op.w.rank == 3),
        streamed_(streams_rows({&op.dr, &op.dk, &op.dv, varies_ ? &op.dw : &op.dr}, {chunk.keys, chunk.values})) {}

  void read(int64_t begin, int64_t n, bool forward) {
    const int64_t first = head_ * c_.values;
    for (int64_t t = 0; t < n; ++t)
      exp_row(varies_ ? op_.w.row(begin + t) + at_ : op_.w.row(head_), c_.d + t * c_.width, c_.keys);
    copy_rows(op_.k, begin, n, at_, c_.keys, c_.k, c_.width);
    copy_rows(op_.v, begin, n, first, c_.values, c_.v, c_.stride);
    if (forward) return;
    copy_rows(op_.r, begin, n, at_, c_.keys, c_.r, c_.width);
    copy_rows(op_.dy, begin, n, first, c_.values, c_.dy, c_.stride);
    for (int64_t t = 0; t < n; ++t) {
      F own = zero();
      for (int64_t i = 0; i < c_.keys; i += kLanes)
        own = fma(load(c_.r + t * c_.width + i) * load(c_.k + t * c_.width + i), u(i), own);
      c_.v_own[t] = sum(own);
    }
  }

  Fetch ahead(int64_t begin, int64_t n, bool inputs, bool back) const {
    const int64_t first = head_ * c_.values;
    Fetch fetch(Ahead{begin, begin + n, head_});
    if (inputs) {
      fetch.add(op_.k, at_, c_.keys), fetch.add(op_.v, first, c_.values);
      if (varies_) fetch.add(op_.w, at_, c_.keys);
    }
    if (!back) return fetch;
    fetch.add(op_.r, at_, c_.keys), fetch.add(op_.dy, first, c_.values);
    if (streamed_) return fetch;
    for (const Tensor* to : {&op_.dr, &op_.dk}) fetch.add(*to, at_, c_.keys);
    if (varies_) fetch.add(op_.dw, at_, c_.keys);
    fetch.add(op_.dv, first, c_.values);
    return fetch;
  }

  void write(int64_t begin, int64_t n) {
    for (int64_t i = 0; i < c_.keys; i += kLanes) {
      const int m = lanes_of(c_.keys - i);
      F du = load(sums_.du + i, m), dw = load(sums_.dw + i, m);
      for (int64_t t = 0; t < n; ++t) {
        const int64_t from = t * c_.width + i, to = at_ + i;
        const F o = set(c_.dv_own[t]), r = load(c_.r + from), k = load(c_.k + from), slope = load(c_.slope + from);
        if (op_.dr) put(op_.dr.row(begin + t) + to, fma(o * u(i), k, load(c_.dr + from)), m, streamed_);
        if (op_.dk) put(op_.dk.row(begin + t) + to, fma(o * u(i), r, load(c_.dk + from)), m, streamed_);
        if (op_.dw && varies_) put(op_.dw.row(begin + t) + to, slope, m, streamed_);
        du = fma(o * r, k, du), dw = dw + slope;
      }
      store(sums_.du + i, du, m), store(sums_.dw + i, dw, m);
    }
    if (op_.dv) put_rows(c_.dv, c_.stride, op_.dv, begin, n, head_ * c_.values, c_.values, streamed_);
    if (streamed_) end_streams();
  }

 private:
  F u(int64_t i) const { return load(op_.u.row(head_) + i, lanes_of(c_.keys - i)); }

  const Wkv6Backward& op_;
  KeyDecayGradient& c_;
  const Sums sums_;
  const int64_t head_, at_;
  const bool varies_, streamed_;
};

}  // namespace

template <>
void run(const Wkv6Backward& op, Context& cx) {
  const int64_t nheads = op.r[1], keys = op.r[2], values = op.v[2], one = keys * values, shared = nheads * keys;
  const Sequences sequences(op.cu_seqlens, Tensor(), op.r[0]);
  float* du = cx.kept<float>(2 * sequences.count * shared);
  float* dw = du + sequences.count * shared;
  std::memset(du, 0, 2 * sequences.count * shared * sizeof(float));
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    float* memory = cx.local<float>(worker, KeyDecayGradient::floats(keys, values, end - begin, op.kept()));
    KeyDecayGradient chunk(keys, values, false, true, end - begin, op.kept(), memory);
    auto state_of = [&](const Tensor& t) { return t.row(s) + head * one; };
    float* first = chunk.first_state();
    if (op.initial_state) read_rows(state_of(op.initial_state), keys, values, first, chunk.stride);
    if (op.dlast_state) read_rows(state_of(op.dlast_state), keys, values, chunk.gradient(), chunk.stride);
    Head rows(op, head, {du + i * keys, dw + i * keys}, chunk);
    chunk.run(
        cx, begin, end, [&](int64_t t, int64_t n, bool forward) { rows.read(t, n, forward); },
        [&](int64_t t, int64_t n, bool inputs, bool back) { return rows.ahead(t, n, inputs, back); },
        [&](int64_t t, int64_t n) { rows.write(t, n); },
        [&](int64_t t, float* S) { read_kept(op.states, t, head, keys, values, S, chunk.stride); });
    if (op.dinitial_state) write_rows(chunk.gradient(), chunk.stride, keys, values, state_of(op.dinitial_state));
  });
  auto over_sequences = [&](const float* from, float* to) {
    std::memset(to, 0, shared * sizeof(float));
    for (int64_t s = 0; s < sequences.count; ++s)
      for (int64_t i = 0; i < shared; ++i) to[i] += from[s * shared + i];
  };
  if (op.du) over_sequences(du, op.du.f32());
  if (op.dw && op.w.rank != 3) over_sequences(dw, op.dw.f32());
}

}  // namespace statespace::STATESPACE_ISA
