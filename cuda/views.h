#pragma once
// Tensors and packed sequences as kernels see them.
#include "device.h"

namespace statespace::cuda {

__host__ __device__ constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class T>
__host__ __device__ constexpr T smaller(T a, T b) {
  return a < b ? a : b;
}
template <class T>
__host__ __device__ constexpr T larger(T a, T b) {
  return a < b ? b : a;
}

// A tensor of rows that may be a view of wider ones.
template <class T>
struct Rows {
  global<T> data = nullptr;
  int64_t stride = 0;

  Rows() = default;
  Rows(const Tensor& t) : data(global_data<T>(t)), stride(t.row_stride) {}
  __device__ global<T> operator[](int64_t i) const { return data + i * stride; }
  __device__ explicit operator bool() const { return bool(data); }
};

// Token ranges from cu_seqlens (one sequence over all tokens without it) and rows of the state pool from slots. The
// lengths are known on the device only: a launcher plans with the number of tokens and sequences.
struct Sequences {
  global<const int32_t> bounds = nullptr, slots = nullptr;
  int count = 1, tokens = 0;

  Sequences(const Tensor& cu_seqlens, const Tensor& slot_list, int64_t total) : tokens(int(total)) {
    bounds = global_data<const int32_t>(cu_seqlens);
    slots = global_data<const int32_t>(slot_list);
    if (cu_seqlens) count = int(cu_seqlens[0]) - 1;
  }
  __device__ int begin(int s) const { return bounds ? bounds[s] : 0; }
  __device__ int end(int s) const { return bounds ? bounds[s + 1] : tokens; }
  __device__ int slot(int s) const { return slots ? slots[s] : s; }
};

// Pieces of at most `size` tokens that do not cross sequences, numbered so that no table of them is needed: sequence s
// owns the numbers from floor(begin(s) / size) + s on, which its ceil(length / size) pieces never exhaust. Numbers
// without a piece are empty.
struct Pieces {
  Sequences sequences;
  int size;

  __host__ int64_t count() const { return sequences.tokens / size + sequences.count; }
  __device__ int first(int s) const { return sequences.begin(s) / size + s; }
  __device__ int sequence(int piece) const {
    int low = 0, high = sequences.count - 1;  // the last s with first(s) <= piece
    while (low < high) {
      const int middle = (low + high + 1) / 2;
      if (first(middle) <= piece)
        low = middle;
      else
        high = middle - 1;
    }
    return low;
  }
};

}  // namespace statespace::cuda
