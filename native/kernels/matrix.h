#pragma once
// Rows that lie without gaps, as a kernel hands them to another.
#include <algorithm>

#include "core/context.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {

inline Tensor matrix(float* data, int64_t rows, int64_t columns) {
  Tensor t;
  t.data = data, t.rank = 2, t.shape[0] = rows, t.shape[1] = t.row_stride = columns;
  return t;
}

// to (columns, rows) = fromᵀ, of as many rows and columns as `to` has.
inline void turn(const Context& cx, const Tensor& from, const Tensor& to) {
  constexpr int64_t kColumns = 16;  // a line of each row
  cx.parallel_for(ceil_div(to[0], kColumns), [&](int64_t piece, int) {
    cx.check_stop();
    const int64_t begin = piece * kColumns, end = std::min(to[0], begin + kColumns);
    for (int64_t r = 0; r < to[1]; ++r)
      for (int64_t c = begin; c < end; ++c) to.row(c)[r] = from.row(r)[c];
  });
}

// Tokens of the longest sequence.
inline int64_t longest_of(const Sequences& sequences) {
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s)
    longest = std::max<int64_t>(longest, sequences.end(s) - sequences.begin(s));
  return longest;
}

}  // namespace statespace::STATESPACE_ISA
