#pragma once
// Rows of gradients that together are larger than the caches: they are written past them.
#include "kernels/head_chunk.h"
#include "kernels/streamed.h"

namespace statespace::STATESPACE_ISA {

// Whether these outputs are, and lie so that heads of `width` values can be.
inline bool streams_rows(std::initializer_list<const Tensor*> outputs, std::initializer_list<int64_t> widths) {
  constexpr int64_t kLeastBytes = 16 << 20;
  int64_t bytes = 0;
  for (const Tensor* t : outputs) {
    if (!*t) continue;
    if (!streams(t->f32(), t->row_stride)) return false;
    bytes += t->size() * int64_t(sizeof(float));
  }
  for (int64_t width : widths)
    if (width % kLanes != 0) return false;
  return bytes >= kLeastBytes;
}

// write_rows(), or the same past the caches.
inline void put_rows(const float* from, int64_t stride, const Tensor& to, int64_t begin, int64_t n, int64_t first,
                     int64_t width, bool streamed) {
  if (!streamed) return write_rows(from, stride, to, begin, n, first, width);
  for (int64_t t = 0; t < n; ++t)
    for (int64_t c = 0; c < width; c += kLanes) stream(to.row(begin + t) + first + c, load(from + t * stride + c));
}

}  // namespace statespace::STATESPACE_ISA
