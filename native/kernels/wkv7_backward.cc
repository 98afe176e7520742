#include "backend/kernels.h"
#include "kernels/kept_rows.h"
#include "kernels/key_decay_gradient.h"
#include "kernels/rows.h"
#include "kernels/streamed_rows.h"
#include "ops/wkv7.h"

namespace statespace::STATESPACE_ISA {
namespace {

// With r' = d r, the form of KeyDecayGradient: what a token's own decay, r·b and r·k give is added here.
class Head {
 public:
  Head(const Wkv7Backward& op, int64_t head, KeyDecayGradient& chunk)
      : op_(op),
        c_(chunk),
        head_(head),
        at_(head * chunk.keys),
        streamed_(streams_rows({&op.dr, &op.dw, &op.dk, &op.dv, &op.da, &op.db}, {chunk.keys, chunk.values})) {}

  void read(int64_t begin, int64_t n, bool forward) {
    const int64_t first = head_ * c_.values;
    for (int64_t t = 0; t < n; ++t) exp_row(op_.w.row(begin + t) + at_, c_.d + t * c_.width, c_.keys);
    copy_rows(op_.a, begin, n, at_, c_.keys, c_.a, c_.width);
    copy_rows(op_.b, begin, n, at_, c_.keys, c_.b, c_.width);
    copy_rows(op_.k, begin, n, at_, c_.keys, c_.k, c_.width);
    copy_rows(op_.v, begin, n, first, c_.values, c_.v, c_.stride);
    if (forward) return;
    copy_rows(op_.r, begin, n, at_, c_.keys, c_.r, c_.width);
    copy_rows(op_.dy, begin, n, first, c_.values, c_.dy, c_.stride);
    for (int64_t t = 0; t < n; ++t) {
      float* r = c_.r + t * c_.width;
      c_.x_own[t] = dot(r, c_.b + t * c_.width, c_.keys);
      c_.v_own[t] = dot(r, c_.k + t * c_.width, c_.keys);
      scale_row(r, c_.d + t * c_.width, r, c_.width);
    }
  }

  Fetch ahead(int64_t begin, int64_t n, bool inputs, bool back) const {
    const int64_t first = head_ * c_.values;
    Fetch fetch(Ahead{begin, begin + n, head_});
    if (inputs) {
      for (const Tensor* from : {&op_.w, &op_.a, &op_.b, &op_.k}) fetch.add(*from, at_, c_.keys);
      fetch.add(op_.v, first, c_.values);
    }
    if (!back) return fetch;
    fetch.add(op_.r, at_, c_.keys), fetch.add(op_.dy, first, c_.values);
    if (streamed_) return fetch;
    for (const Tensor* to : {&op_.dr, &op_.dw, &op_.da, &op_.db, &op_.dk}) fetch.add(*to, at_, c_.keys);
    fetch.add(op_.dv, first, c_.values);
    return fetch;
  }

  void write(int64_t begin, int64_t n) {
    for (int64_t t = 0; t < n; ++t) {
      const F p = set(c_.dx_own[t]), o = set(c_.dv_own[t]);
      for (int64_t i = 0; i < c_.keys; i += kLanes) {
        const int64_t from = t * c_.width + i, to = at_ + i;
        const int m = lanes_of(c_.keys - i);
        auto give = [&](const Tensor& gradient, F x) {
          if (gradient) put(gradient.row(begin + t) + to, x, m, streamed_);
        };
        const F r = load(op_.r.row(begin + t) + to, m), dr = load(c_.dr + from);
        const F b = load(c_.b + from), k = load(c_.k + from);
        give(op_.dr, fma(load(c_.d + from), dr, fma(p, b, o * k)));
        give(op_.dw, fma(load(c_.r + from), dr, load(c_.slope + from)));
        give(op_.da, load(c_.da + from));
        give(op_.db, fma(p, r, load(c_.db + from)));
        give(op_.dk, fma(o, r, load(c_.dk + from)));
      }
    }
    if (op_.dv) put_rows(c_.dv, c_.stride, op_.dv, begin, n, head_ * c_.values, c_.values, streamed_);
    if (streamed_) end_streams();
  }

 private:
  const Wkv7Backward& op_;
  KeyDecayGradient& c_;
  const int64_t head_, at_;
  const bool streamed_;
};

}  // namespace

template <>
void run(const Wkv7Backward& op, Context& cx) {
  const int64_t nheads = op.r[1], keys = op.r[2], values = op.v[2], one = keys * values;
  const Sequences sequences(op.cu_seqlens, Tensor(), op.r[0]);
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, head = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    float* memory = cx.local<float>(worker, KeyDecayGradient::floats(keys, values, end - begin, op.kept()));
    KeyDecayGradient chunk(keys, values, true, true, end - begin, op.kept(), memory);
    // The op's states are (value, key).
    auto each = [&](const Tensor& t, float* state, auto&& fn) {
      float* outside = t.row(s) + head * one;
      for (int64_t j = 0; j < values; ++j)
        for (int64_t k = 0; k < keys; ++k) fn(outside[j * keys + k], state[k * chunk.stride + j]);
    };
    float* first = chunk.first_state();
    if (op.initial_state) each(op.initial_state, first, [](float& from, float& to) { to = from; });
    if (op.dlast_state) each(op.dlast_state, chunk.gradient(), [](float& from, float& to) { to = from; });
    Head rows(op, head, chunk);
    chunk.run(
        cx, begin, end, [&](int64_t t, int64_t n, bool forward) { rows.read(t, n, forward); },
        [&](int64_t t, int64_t n, bool inputs, bool back) { return rows.ahead(t, n, inputs, back); },
        [&](int64_t t, int64_t n) { rows.write(t, n); },
        [&](int64_t t, float* S) { read_kept(op.states, t, head, keys, values, S, chunk.stride); });
    if (op.dinitial_state) each(op.dinitial_state, chunk.gradient(), [](float& to, float& from) { to = from; });
  });
}

}  // namespace statespace::STATESPACE_ISA
