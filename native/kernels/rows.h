#pragma once
// Loops over the rows of a tensor, for kernels that treat every row alike.
#include <cstdint>

#include "core/context.h"
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

}  // namespace statespace::STATESPACE_ISA
