#include "backend/kernels.h"
#include "kernels/decay_gradient.h"
#include "kernels/head_chunk.h"
#include "ops/retention.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One head of one sequence; the sum of the slopes in its log decay. States are (value, key) here, (key, value) outside.
float head_gradient(const RetentionBackward& op, Context& cx, int64_t s, int64_t h, int64_t begin, int64_t end,
                    float* memory) {
  const int64_t keys = op.q[2], values = op.v[2], size = DecayGradient::state_floats(keys, values);
  const float scale = op.scaling();
  DecayGradient chunk(keys, values, memory);
  float* states = memory + ceil_div(DecayGradient::floats(keys, values), 16) * 16;
  const int64_t chunks = ceil_div(end - begin, kDecayChunk);
  float* G = states + chunks * size;
  for (float* state : {states, G}) chunk.clear_state(state);
  auto each = [&](const Tensor& t, float* state, auto&& fn) {
    float* outside = t.row(s) + h * keys * values;
    for (int64_t i = 0; i < keys; ++i)
      for (int64_t j = 0; j < values; ++j) fn(outside[i * values + j], state[j * chunk.key_stride + i]);
  };
  auto in = [](float& from, float& to) { to = from; };
  if (op.initial_state && chunks) each(op.initial_state, states, in);
  if (op.dlast_state) each(op.dlast_state, G, in);
  auto read_inputs = [&](int64_t t, int64_t n) {
    chunk.decays.fill(n, [&](int64_t) { return double(op.log_decay.f32()[h]); });
    copy_rows(op.k, t, n, h * keys, keys, chunk.k, chunk.key_stride);
    copy_rows(op.v, t, n, h * values, values, chunk.x, chunk.value_stride);
  };
  // The head's values of a chunk's tokens; none before the first one.
  auto rows_of = [&](const Tensor& from, int64_t t) -> RowsAhead {
    if (!from || t < begin) return {};
    return {from.row(t) + h * values, from.row_stride, std::min(kDecayChunk, end - t), values};
  };
  for (int64_t c = 0; c + 1 < chunks; ++c) {
    cx.check_stop();
    const int64_t t = begin + c * kDecayChunk, next = t + kDecayChunk;
    read_inputs(t, kDecayChunk);
    fetch_rows(op.k, next, std::min(kDecayChunk, end - next), h * keys, keys);
    chunk.ahead[0] = rows_of(op.v, next);
    chunk.clear_rest(states + (c + 1) * size);
    chunk.advance(kDecayChunk, states + c * size, states + (c + 1) * size);
  }
  float slope = 0;
  for (int64_t c = chunks - 1; c >= 0; --c) {
    cx.check_stop();
    const int64_t t = begin + c * kDecayChunk, n = std::min(kDecayChunk, end - t);
    read_inputs(t, n);
    copy_rows(op.q, t, n, h * keys, keys, chunk.q, chunk.key_stride);
    statespace::STATESPACE_ISA::scale(chunk.q, scale, n * chunk.key_stride);
    copy_rows(op.dy, t, n, h * values, values, chunk.u, chunk.value_stride);
    // The chunk's own results, and the inputs of the one before it.
    for (const Tensor* to : {&op.dq, &op.dk}) fetch_rows(*to, t, n, h * keys, keys);
    if (c > 0)
      for (const Tensor* from : {&op.q, &op.k}) fetch_rows(*from, t - kDecayChunk, kDecayChunk, h * keys, keys);
    chunk.ahead[0] = rows_of(op.v, t - kDecayChunk), chunk.ahead[1] = rows_of(op.dy, t - kDecayChunk);
    chunk.ahead[2] = rows_of(op.dv, t);
    chunk.begin(n);
    chunk.head(n, states + c * size, G, false);
    chunk.finish(n);
    statespace::STATESPACE_ISA::scale(chunk.dq, scale, n * chunk.key_stride);
    if (op.dq) write_rows(chunk.dq, chunk.key_stride, op.dq, t, n, h * keys, keys);
    if (op.dk) write_rows(chunk.dk, chunk.key_stride, op.dk, t, n, h * keys, keys);
    if (op.dv) write_rows(chunk.dx, chunk.value_stride, op.dv, t, n, h * values, values);
    for (int64_t i = 0; i < n; ++i) slope += chunk.slopes[i];
  }
  if (op.dinitial_state) each(op.dinitial_state, G, [](float& to, float& from) { to = from; });
  return slope;
}

}  // namespace

template <>
void run(const RetentionBackward& op, Context& cx) {
  const int64_t nheads = op.q[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), op.q[0]);
  float* slopes = cx.kept<float>(sequences.count * nheads);
  cx.parallel_for(sequences.count * nheads, [&](int64_t i, int worker) {
    const int64_t s = i / nheads, h = i % nheads, begin = sequences.begin(s), end = sequences.end(s);
    const int64_t states = ceil_div(end - begin, kDecayChunk) + 1;
    const int64_t floats =
        DecayGradient::floats(op.q[2], op.v[2]) + 16 + states * DecayGradient::state_floats(op.q[2], op.v[2]);
    slopes[i] = head_gradient(op, cx, s, h, begin, end, cx.local<float>(worker, floats));
  });
  if (!op.dlog_decay) return;
  for (int64_t h = 0; h < nheads; ++h) {
    float total = 0;
    for (int64_t s = 0; s < sequences.count; ++s) total += slopes[s * nheads + h];
    op.dlog_decay.f32()[h] = total;
  }
}

}  // namespace statespace::STATESPACE_ISA
