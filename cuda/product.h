#pragma once
// y = act(x·weightᵀ + bias) + residual for every op that contains a matrix product, in groups of rows that have a
// weight each or in one. Which kernel does it depends on the number of rows and on the weight's type:
//   few rows (decode)     product_few.cu   f32 multiply-adds; each byte of the weight is read once
//   f16, bf16, quantised  product_mma.cu   tensor cores; x is rounded to the type of the products first
//   f32, or `exact`       product_fma.cu   f32 multiply-adds
#include "elementary.h"
#include "views.h"

namespace statespace::cuda {

// Rows of any float type.
struct FloatRows {
  Rows<const float> f32;
  Rows<const f16> half;
  Rows<const bf16> brain;

  FloatRows() = default;
  FloatRows(const Tensor& t) {
    if (t.dtype == DType::f16)
      half = t;
    else if (t.dtype == DType::bf16)
      brain = t;
    else
      f32 = t;
  }
  __device__ float operator()(int64_t row, int64_t i) const {
    return f32 ? f32[row][i] : half ? to_float(half[row][i]) : to_float(brain[row][i]);
  }
};

// What follows a product's sums.
struct Epilogue {
  global<const float> bias = nullptr;  // (out)
  Activation activation = Activation::none;
  Rows<const float> residual;  // (rows, out); may be y
  Rows<float> y;

  __device__ void store(int64_t row, int column, float sum) const {
    float v = activate(activation, bias ? sum + bias[column] : sum);
    if (residual) v += residual[row][column];
    y[row][column] = v;
  }
};

struct Product {
  FloatRows x;                             // (rows of x, in)
  global<const int32_t> source = nullptr;  // (rows) which row of x; row i is i without it
  bool gated = false;                      // x is (rows, 2·in): the product's input is act(first half)·second half
  Activation gate = Activation::silu;      // that act
  float limit = 0;                         // > 0: clamps the first half from above, the second from both sides

  global<const uint8_t> weight;  // (groups, out…, in) or (out, in), of `dtype`
  DType dtype = DType::f32;
  int64_t group_stride = 0, row_stride = 0;  // elements
  int in = 0, out = 0;
  bool aligned = false;  // every row of the weight begins at a multiple of 16 bytes

  Sequences groups;  // rows of each group
  Epilogue epilogue;
  bool exact = false;  // nothing is rounded on the way to the sums

  Product(const Tensor& weight, const Sequences& groups);

  int64_t rows() const { return groups.tokens; }
  // x as the products take it; behind a gather or a gate f32.
  __device__ float input(int64_t row, int k) const {
    const int64_t from = source ? source[row] : row;
    if (!gated) return x(from, k);
    const float g = x(from, k), up = x(from, in + k);
    return limit > 0 ? activate(gate, fminf(g, limit)) * fmaxf(fminf(up, limit), -limit) : activate(gate, g) * up;
  }
};

// Rows up to which product_few takes it (in the mean over the groups).
constexpr int kFewRows = 16;

void product(const Product& p);

void product_few(const Product& p);
void product_mma(const Product& p);
void product_fma(const Product& p);

}  // namespace statespace::cuda
