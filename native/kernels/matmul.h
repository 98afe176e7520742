#pragma once
// y = scale·act(x·weightᵀ + bias)·gate + residual, for every kernel that contains a matrix product.
#include <vector>

#include "core/context.h"
#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// Rows of activations: row i is the one numbered index[i] where there is an index (a gather of x, a scatter of y), else
// i itself.
struct Rows {
  void* data = nullptr;
  int64_t stride = 0;  // elements
  DType dtype = DType::f32;
  const int32_t* index = nullptr;

  Rows() = default;
  Rows(const Tensor& t, const int32_t* index = nullptr)
      : data(t.data), stride(t.row_stride), dtype(t.dtype), index(index) {}
  int64_t number(int64_t i) const { return index ? index[i] : i; }
  template <class T>
  T* row(int64_t i) const {
    return static_cast<T*>(data) + number(i) * stride;
  }
};

// What follows the product. gate and residual are f32 and may be y itself: gate = y multiplies into what is there,
// residual = y accumulates.
struct Epilogue {
  const float* bias = nullptr;   // (out)
  int32_t activation = 0;        // as Activation
  const float* scale = nullptr;  // (rows)
  Rows gate, residual;           // (rows, out); rows without data are absent
  bool exact = false;            // never round x to the weight's type (a router's near ties)
};

// Bytes of shared scratch (cx.shared) that a product of up to `rows` rows with this weight needs.
int64_t matmul_scratch(const Tensor& weight, int64_t rows);

// x (rows, in), weight matrix number `index` (out, in) as rows or packed, y f32 (rows, out). Uses all threads and every
// worker's cx.local; `scratch` holds matmul_scratch() bytes and is 64-byte aligned. An element of y is the same
// whatever the number of threads and, where the weight is packed and not quantised, of rows; by a weight in rows
// fewer rows of x are summed in another order than many, for which it is packed.
void matmul(const Context& cx, const Rows& x, int64_t rows, const Tensor& weight, int64_t index,
            const Epilogue& epilogue, const Rows& y, void* scratch);
inline void matmul(const Context& cx, const Rows& x, int64_t rows, const Tensor& weight, const Epilogue& epilogue,
                   const Rows& y, void* scratch) {
  matmul(cx, x, rows, weight, 0, epilogue, y, scratch);
}

// One product of several. Neighbours that share their scratch memory share x as well, which is made ready once.
struct Multiplication {
  Rows x;
  int64_t rows;
  const Tensor* weight;
  int64_t index;
  Epilogue epilogue;
  Rows y;
  void* scratch;
};

// Whether matmul_chains() takes products of up to `rows` rows with this weight: few rows, packed floats.
bool chains(const Tensor& weight, int64_t rows);

// Chains of `length` products, one chain after the other in `all`, in one loop over the threads: many small products
// would each wait for all threads. The products of a chain follow one another panel by panel, so that one may read what
// those before it have written to the same columns; chains write nothing in common. All have as many outputs. Results
// are those of matmul().
void matmul_chains(const Context& cx, const std::vector<Multiplication>& all, int64_t length);

// out (in) = row `i` of a weight of any dtype and layout, in f32; of its matrix number `index`.
void weight_row(const Tensor& weight, int64_t index, int64_t i, float* out);
inline void weight_row(const Tensor& weight, int64_t i, float* out) { weight_row(weight, 0, i, out); }

}  // namespace statespace::STATESPACE_ISA
