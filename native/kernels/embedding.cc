#include "ops/embedding.h"

#include "backend/kernels.h"
#include "kernels/matmul.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Embedding& op, Context& cx) {
  const int32_t* ids = op.ids.i32();
  const int64_t d_model = op.y[1];
  cx.parallel_for(op.y[0], [&](int64_t t, int) {
    float* y = op.y.row(t);
    weight_row(op.weight, ids[t], y);
    if (op.scale != 1)
      for (int64_t i = 0; i < d_model; ++i) y[i] *= op.scale;
  });
}

}  // namespace statespace::STATESPACE_ISA
