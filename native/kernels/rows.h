#pragma once
// Loops over the rows of a tensor, for kernels that treat every row alike.
#include <cstdint>

#include "core/context.h"
#include "core/tensor.h"
#include "isa/simd.h"

namespace statespace::STATESPACE_ISA {

// How many of the next kLanes values exist when `left` remain.
inline int lanes_of(int64_t left) { return left < kLanes ? int(left) : kLanes; }

// fn(begin, end, worker) over blocks of rows: a piece of work is at least some 16K values, so that claiming it costs
// little beside it.
template <class Fn>
void for_row_blocks(Context& cx, int64_t rows, int64_t width, Fn&& fn) {
  const int64_t block = width > 0 && width < 16384 ? 16384 / width : 1;
  cx.parallel_for((rows + block - 1) / block, [&](int64_t i, int worker) {
    const int64_t begin = i * block, end = begin + block < rows ? begin + block : rows;
    fn(begin, end, worker);
  });
}

// Rows [row, row + count) of a tensor of floats or halves, columns [first, first + width), as floats that stand at the
// same places of the tensor returned: `t` itself, or halves widened into `own` (count, width) while as many rows behind
// them are brought to L2.
inline Tensor floats_of(const Tensor& t, int64_t row, int64_t count, int64_t first, int64_t width, float* own) {
  if (t.dtype == DType::f32) return t;
  const auto widen = [&](const auto* from) {
    for (int64_t r = 0; r < count; ++r, from += t.row_stride) {
      float* to = own + r * width;
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) {
        prefetch(from + count * t.row_stride + i);
        store(to + i, load(from + i));
      }
      if (i < width) store(to + i, load(from + i, int(width - i)), int(width - i));
    }
  };
  const int64_t at = row * t.row_stride + first;
  t.dtype == DType::bf16 ? widen(t.as<bf16_t>() + at) : widen(t.as<f16_t>() + at);
  Tensor floats = t;
  floats.dtype = DType::f32, floats.row_stride = width;
  floats.data = own - (row * width + first);
  return floats;
}

}  // namespace statespace::STATESPACE_ISA
