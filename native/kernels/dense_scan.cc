#include "ops/dense_scan.h"

#include "backend/kernels.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr int kVectors = 4;  // of outputs at once: as many sums in flight hide the latency of the next

// next = A h + v over `count` vectors from `n` on; columns of A, (d_state, stride).
template <int count>
void step(const float* columns, int64_t stride, const float* h, int64_t d_state, const float* v, int64_t n,
          float* next) {
  F sums[count];
  for (int i = 0; i < count; ++i) sums[i] = load(v + n + i * kLanes, lanes_of(d_state - n - i * kLanes));
  for (int64_t k = 0; k < d_state; ++k) {
    const F x = set(h[k]);
    for (int i = 0; i < count; ++i) sums[i] = fma(x, load(columns + k * stride + n + i * kLanes), sums[i]);
  }
  for (int i = 0; i < count; ++i) store(next + n + i * kLanes, sums[i]);
}

}  // namespace

template <>
void run(const DenseScan& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, op.slots, op.v[0]);
  const int64_t d_state = op.A[0], stride = ceil_div(d_state, kLanes) * kLanes;
  float* columns = cx.shared<float>(d_state * stride);
  cx.parallel_for(d_state, [&](int64_t k, int) {
    for (int64_t n = 0; n < stride; ++n) columns[k * stride + n] = n < d_state ? op.A.row(n)[k] : 0;
  });
  cx.parallel_for(sequences.count, [&](int64_t s, int worker) {
    float *h = cx.local<float>(worker, 2 * stride), *next = h + stride;
    float* state = op.state.row(sequences.slot(s));
    std::memcpy(h, state, size_t(d_state) * sizeof(float));
    for (int64_t t = sequences.begin(s); t < sequences.end(s); ++t) {
      cx.check_stop();
      int64_t n = 0;
      for (; n + kVectors * kLanes <= stride; n += kVectors * kLanes)
        step<kVectors>(columns, stride, h, d_state, op.v.row(t), n, next);
      for (; n < stride; n += kLanes) step<1>(columns, stride, h, d_state, op.v.row(t), n, next);
      float* last = h;
      h = next, next = last;
      std::memcpy(op.h.row(t), h, size_t(d_state) * sizeof(float));
    }
    std::memcpy(state, h, size_t(d_state) * sizeof(float));
  });
}

}  // namespace statespace::STATESPACE_ISA
