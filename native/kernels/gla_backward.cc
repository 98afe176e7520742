#include "backend/kernels.h"
#include "kernels/head_sums.h"
#include "kernels/kept_rows.h"
#include "kernels/key_decay_gradient.h"
#include "kernels/rows.h"
#include "kernels/streamed_rows.h"
#include "ops/gla.h"

namespace statespace::STATESPACE_ISA {
namespace {

// The form of KeyDecayGradient without a and b: r = d q and o = q·k for the scaled q. What q, k and a token's own decay
// get of those is added here.
class Head {
 public:
  // dk, dv and dg have rows of every head of q.
  Head(const GlaBackward& op, int64_t head, int64_t begin, KeyDecayGradient& chunk, const Tensor& dk, const Tensor& dv,
       const Tensor& dg)
      : op_(op),
        c_(chunk),
        dk_(dk),
        dv_(dv),
        dg_(dg),
        head_(head),
        begin_(begin),
        head_kv_(head / (op.q[1] / op.k[1])),
        scale_(1 / ::sqrtf(float(chunk.keys))),
        streamed_(streams_rows({&op.dq, &dk, &dg, &dv}, {chunk.keys, chunk.values})) {}

  void read(int64_t begin, int64_t n, bool forward) {
    for (int64_t t = 0; t < n; ++t) {
      const float *g = op_.g.row(begin + t) + head_kv_ * c_.keys, *from_k = op_.k.row(begin + t) + head_kv_ * c_.keys;
      const float* from_q = op_.q.row(begin + t) + head_ * c_.keys;
      F own = zero();
      for (int64_t i = 0; i < c_.keys; i += kLanes) {
        const int64_t to = t * c_.width + i;
        const int m = lanes_of(c_.keys - i);
        const F d = exp(load(g + i, m)), k = load(from_k + i, m);
        store(c_.d + to, d);
        store(c_.k + to, k);
        if (forward) continue;
        const F q = set(scale_) * load(from_q + i, m);
        own = fma(q, k, own);
        store(c_.r + to, d * q);
      }
      if (!forward) c_.v_own[t] = sum(own);
    }
    copy_rows(op_.v, begin, n, head_kv_ * c_.values, c_.values, c_.v, c_.stride);
    if (!forward) copy_rows(op_.dy, begin, n, head_ * c_.values, c_.values, c_.dy, c_.stride);
  }

  Fetch ahead(int64_t begin, int64_t n, bool inputs, bool back) const {
    const int64_t shared = head_kv_ * c_.keys, own = head_ * c_.keys, first = head_ * c_.values;
    Fetch fetch(Ahead{begin, begin + n, head_});
    if (inputs) {
      fetch.add(op_.k, shared, c_.keys), fetch.add(op_.g, shared, c_.keys);
      fetch.add(op_.v, head_kv_ * c_.values, c_.values);
    }
    if (!back) return fetch;
    add_kept(begin, fetch);
    fetch.add(op_.q, own, c_.keys), fetch.add(op_.dy, first, c_.values);
    if (streamed_) return fetch;
    for (const Tensor* to : {&op_.dq, &dk_, &dg_}) fetch.add(*to, own, c_.keys);
    fetch.add(dv_, first, c_.values);
    return fetch;
  }

  void write(int64_t begin, int64_t n) {
    const F root = set(scale_);
    for (int64_t t = 0; t < n; ++t) {
      const float *q = op_.q.row(begin + t) + head_ * c_.keys, *k = op_.k.row(begin + t) + head_kv_ * c_.keys;
      const F o = set(c_.dv_own[t]);
      for (int64_t i = 0; i < c_.keys; i += kLanes) {
        const int64_t from = t * c_.width + i;
        const int m = lanes_of(c_.keys - i);
        auto give = [&](const Tensor& gradient, F x) {
          if (gradient) put(gradient.row(begin + t) + head_ * c_.keys + i, x, m, streamed_);
        };
        const F dr = load(c_.dr + from);
        give(op_.dq, root * fma(load(c_.d + from), dr, o * load(k + i, m)));
        give(dk_, fma(o * root, load(q + i, m), load(c_.dk + from)));
        give(dg_, fma(load(c_.r + from), dr, load(c_.slope + from)));
      }
    }
    if (dv_) put_rows(c_.dv, c_.stride, dv_, begin, n, head_ * c_.values, c_.values, streamed_);
    if (streamed_) end_streams();
  }

 private:
  // With each chunk of a segment but the last a part of the state that the segment before begins with.
  void add_kept(int64_t token, Fetch& fetch) const {
    constexpr int64_t kParts = kept_states::kEvery / kChunk - 1;
    const int64_t into = (token - begin_) % kept_states::kEvery, at = token - into - kept_states::kEvery;
    const int64_t part = into / kChunk, floats = c_.keys * c_.values;
    if (!op_.kept() || at <= begin_ || part >= kParts) return;
    const int64_t first = part * floats / kParts, end = (part + 1) * floats / kParts;
    fetch.add(kept_states::at(op_.states, at, head_) + first, end - first);
  }

  const GlaBackward& op_;
  KeyDecayGradient& c_;
  const Tensor &dk_, &dv_, &dg_;
  const int64_t head_, begin_, head_kv_;
  const float scale_;
  const bool streamed_;
};

}  // namespace

template <>
void run(const GlaBackward& op, Context& cx) {
  const int64_t tokens = op.q[0], nheads = op.q[1], keys = op.q[2], values = op.v[2], one = keys * values;
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const HeadSums sums(cx, nheads, {&op.dk, &op.dv, &op.dg});
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    float* memory = cx.local<float>(worker, KeyDecayGradient::floats(keys, values, end - begin, op.kept()));
    KeyDecayGradient chunk(keys, values, false, true, end - begin, op.kept(), memory);
    auto state_of = [&](const Tensor& t) { return t.row(s) + head * one; };
    float* first = chunk.first_state();
    if (op.initial_state) read_rows(state_of(op.initial_state), keys, values, first, chunk.stride);
    if (op.dlast_state) read_rows(state_of(op.dlast_state), keys, values, chunk.gradient(), chunk.stride);
    Head rows(op, head, begin, chunk, sums[0], sums[1], sums[2]);
    chunk.run(
        cx, begin, end, [&](int64_t t, int64_t n, bool forward) { rows.read(t, n, forward); },
        [&](int64_t t, int64_t n, bool inputs, bool back) { return rows.ahead(t, n, inputs, back); },
        [&](int64_t t, int64_t n) { rows.write(t, n); },
        [&](int64_t t, float* S) { read_kept(op.states, t, head, keys, values, S, chunk.stride); });
    if (op.dinitial_state) write_rows(chunk.gradient(), chunk.stride, keys, values, state_of(op.dinitial_state));
  });
  sums.finish();
}

}  // namespace statespace::STATESPACE_ISA
