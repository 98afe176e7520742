#pragma once
// The states that a recurrence keeps for its gradient (ops/kept_states.h) as rows of a kernel's own.
#include "kernels/streamed_rows.h"
#include "ops/kept_states.h"

namespace statespace::STATESPACE_ISA {

// Keeps a head's state (rows, columns) before a token.
inline void keep_rows(const float* from, int64_t stride, int64_t rows, int64_t columns, const Tensor& states,
                      int64_t token, int64_t head) {
  const bool streamed = streams_rows({&states}, {columns});
  float* to = kept_states::at(states, token, head);
  for (int64_t i = 0; i < rows; ++i, from += stride, to += columns)
    for (int64_t c = 0; c < columns; c += kLanes)
      put(to + c, load(from + c), columns - c < kLanes ? int(columns - c) : kLanes, streamed);
  if (streamed) end_streams();
}
inline void read_kept(const Tensor& states, int64_t token, int64_t head, int64_t rows, int64_t columns, float* to,
                      int64_t stride) {
  read_rows(kept_states::at(states, token, head), rows, columns, to, stride);
}

}  // namespace statespace::STATESPACE_ISA
