#include "ops/dense_scan.h"

#include "backend/kernels.h"
#include "kernels/dense_step.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
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
      dense_step(columns, stride, h, d_state, op.v.row(t), next);
      float* last = h;
      h = next, next = last;
      std::memcpy(op.h.row(t), h, size_t(d_state) * sizeof(float));
    }
    std::memcpy(state, h, size_t(d_state) * sizeof(float));
  });
}

}  // namespace statespace::STATESPACE_ISA
