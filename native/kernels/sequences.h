#pragma once
// Packed sequences, as every kernel over time sees them.
#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// Sequences of a call: token ranges from cu_seqlens (one sequence over all tokens without it) and rows of the state
// pool from slots (sequence s uses row s without them).
struct Sequences {
  const int32_t* bounds = nullptr;
  const int32_t* slots = nullptr;
  int64_t count = 1;
  int64_t tokens = 0;

  Sequences(const Tensor& cu_seqlens, const Tensor& slot_list, int64_t total) : tokens(total) {
    if (cu_seqlens) bounds = cu_seqlens.i32(), count = cu_seqlens[0] - 1;
    if (slot_list) slots = slot_list.i32();
  }
  int64_t begin(int64_t s) const { return bounds ? bounds[s] : 0; }
  int64_t end(int64_t s) const { return bounds ? bounds[s + 1] : tokens; }
  // The first sequence that ends after token t: the one that holds it.
  int64_t containing(int64_t t) const {
    int64_t low = 0, high = count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (end(middle) > t)
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
  int64_t slot(int64_t s) const { return slots ? slots[s] : s; }
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace statespace::STATESPACE_ISA
