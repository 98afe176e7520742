#include "ops/add.h"

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/column_sums.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {

template <>
void run(const Add& op, Context& cx) {
  const int64_t channels = op.a[1];
  const F alpha = set(op.alpha), beta = set(op.beta);
  for_row_blocks(cx, op.a[0], channels, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float *a = op.a.row(r), *b = op.b.rank == 1 ? op.b.f32() : op.b.row(r);
      float* y = op.y.row(r);
      for (int64_t c = 0; c < channels; c += kLanes) {
        const int m = lanes_of(channels - c);
        store(y + c, fma(alpha, load(a + c, m), beta * load(b + c, m)), m);
      }
    }
  });
}

template <>
void run(const AddBackward& op, Context& cx) {
  const int64_t channels = op.dy[1];
  auto scaled = [&](float factor, const Tensor& to) {
    for_row_blocks(cx, op.dy[0], channels, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r)
        for (int64_t c = 0; c < channels; c += kLanes) {
          const int m = lanes_of(channels - c);
          store(to.row(r) + c, set(factor) * load(op.dy.row(r) + c, m), m);
        }
    });
  };
  if (op.da) scaled(op.alpha, op.da);
  if (op.db && op.db.rank == 2) scaled(op.beta, op.db);
  if (op.db && op.db.rank == 1) {
    sum_rows(cx, op.dy, op.db.f32());
    for (int64_t c = 0; c < channels; ++c) op.db.f32()[c] *= op.beta;
  }
}

}  // namespace statespace::STATESPACE_ISA
