#pragma once
// The products of a linear layer's gradient.
#include "gradients.h"
#include "weights.h"

namespace statespace::cuda {

struct DyRows {
  Rows<const float> dy;
  __device__ float operator()(int64_t row, int64_t out) const { return dy[row][out]; }
};
struct DyColumns {
  Rows<const float> dy;
  __device__ float operator()(int64_t out, int64_t row) const { return dy[row][out]; }
};
struct RowsFrom {
  FloatRows x;
  int64_t first;
  __device__ float operator()(int64_t row, int64_t i) const { return x(first + row, i); }
};
template <class W>
struct WeightRows {
  Product weight;
  __device__ float operator()(int64_t out, int64_t in) const {
    return weight_value<W>(weight, out * weight.row_stride + in);
  }
};

// dx = dy·W, dweight = dyᵀ·x, dbias = Σ dy, those that are given; `add`: more of the last two. x and dx are
// rows from `first` on.
inline void linear_gradients(const Tensor& x, const Tensor& weight, const Rows<const float>& dy, int64_t first,
                             int64_t rows, const Tensor& dx, const Tensor& dweight, const Tensor& dbias, bool add) {
  const int64_t out = weight[0], in = weight[1];
  const Product w(weight, Sequences(Tensor{}, Tensor{}, rows));
  if (dbias) sum_columns(DyRows{dy}, rows, dbias, add);
  if (dx) {
    Rows<float> to(dx);
    to.data += first * to.stride;
    with_weight(w.dtype, [&]<class W>() { multiply_rows(DyRows{dy}, WeightRows<W>{w}, to, rows, in, out, false); });
  }
  if (dweight) multiply_rows(DyColumns{dy}, RowsFrom{x, first}, Rows<float>(dweight), out, in, rows, add);
}

}  // namespace statespace::cuda
