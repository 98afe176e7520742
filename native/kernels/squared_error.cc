#include "ops/squared_error.h"

#include "backend/kernels.h"

namespace statespace::STATESPACE_ISA {
namespace {

// By its bits: the compiler may take every number for one.
bool is_target(int32_t bits) { return (bits & 0x7fffffff) <= 0x7f800000; }

}  // namespace

template <>
void run(const SquaredError& op, Context& cx) {
  const int64_t rows = op.y[0], channels = op.y[1];
  const int32_t* bits = op.targets.i32();
  const float* targets = op.targets.f32();
  double divisor = 0;
  if (op.divisor)
    divisor = *op.divisor.f32();
  else
    for (int64_t i = 0; i < rows * channels; ++i) divisor += is_target(bits[i]);
  const float factor = divisor > 0 ? float(2 / divisor) : 0;
  double* sums = cx.shared<double>(rows);
  cx.parallel_for(rows, [&](int64_t r, int) {
    sums[r] = 0;
    for (int64_t c = 0, i = r * channels; c < channels; ++c, ++i) {
      const float difference = is_target(bits[i]) ? op.y.row(r)[c] - targets[i] : 0;
      sums[r] += double(difference) * difference;
      if (op.dy) op.dy.row(r)[c] = factor * difference;
    }
  });
  double total = 0;
  for (int64_t r = 0; r < rows; ++r) total += sums[r];
  *op.loss.f32() = divisor > 0 ? float(total / divisor) : 0;
}

}  // namespace statespace::STATESPACE_ISA
