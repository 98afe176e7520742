#pragma once
// States that a recurrence over a head's matrix keeps for its gradient: before every 64th token of a sequence. That
// before token t of all has place t / 64 - 1, which no other one has. At a place there is room for 128 rows of each
// head, in the order of the kernel that reads them; heads of more have none kept. They lie one behind the other in a
// tensor (tokens, 2, nheads, columns).
#include <string>

#include "core/error.h"
#include "core/tensor.h"

namespace statespace::kept_states {

constexpr int64_t kEvery = 64, kRows = 2 * kEvery;

inline bool fit(const Tensor& states, int64_t rows) { return states && rows <= kRows; }
// Whether the state before token t of a sequence that begins at `begin` is kept.
inline bool has(int64_t begin, int64_t t) { return t > begin && (t - begin) % kEvery == 0; }
inline float* at(const Tensor& states, int64_t t, int64_t head) {
  return states.f32() + ((t / kEvery - 1) * states.shape[2] + head) * kRows * states.shape[3];
}
inline void check(const std::string& op, const Tensor& states) {
  if (states && states.row_stride != states.row_size())
    throw Error(Code::kShape, op + ": states: expected rows without gaps");
}

}  // namespace statespace::kept_states
