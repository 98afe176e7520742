#include "ops/select_rows.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Selected {
  Rows<const float> x;
  global<const int32_t> rows;
  Rows<float> y;

  template <int W>
  __device__ void at(int64_t i, int64_t c) const {
    store(y[i], c, load<W>(x[rows[i]], c));
  }
};

}  // namespace

template <>
void run(const SelectRows& op) {
  launch_pointwise(Selected{op.x, global_data<const int32_t>(op.rows), op.y}, op.y[0], op.x[1], by_fours(op.x, op.y));
}

}  // namespace statespace::cuda
