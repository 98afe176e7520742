#pragma once
// Results that are written past the caches.
#include <initializer_list>

#include "core/tensor.h"
#include "isa/stream.h"

namespace statespace::STATESPACE_ISA {

// Whether y is, as rows of `width` values at a time: in a loop of calls a result of this size has left the caches by
// when its memory is written again, and pushes out what the next call reads. One of 8 MB that its caller keeps and the
// next op reads loses nothing by it, 2 and 4 MB a tenth (32 MB of L3). What lies where an input does has been read
// already.
inline bool streams_result(const Tensor& y, std::initializer_list<const Tensor*> inputs, int64_t width) {
  constexpr int64_t kLeastBytes = 8 << 20;
  for (const Tensor* input : inputs)
    if (input->data == y.data) return false;
  return y.size() * int64_t(sizeof(float)) >= kLeastBytes && width % kLanes == 0 && streams(y.f32(), y.row_stride);
}

// The first m lanes; streamed only whole.
inline void put(float* to, F v, int m, bool streamed) { streamed ? stream(to, v) : store(to, v, m); }

}  // namespace statespace::STATESPACE_ISA
