#pragma once
// How a session's state is laid out outside of it: the slot, then page for page of every cache and head the visible
// tokens, (tokens, headdim) each.
#include <algorithm>

#include "program/session.h"

namespace statespace {

// Calls fn(offset in the page, bytes) for every run of the tokens [begin, end) of every cache and head within `page`.
template <class Fn>
void each_run(const Program& p, int64_t page, int64_t begin, int64_t end, Fn&& fn) {
  const int64_t low = std::max(begin, page * kPageTokens), high = std::min(end, (page + 1) * kPageTokens);
  int64_t offset = 0;
  for (const Value& v : p.graph().values) {
    if (v.kind != ValueKind::cache) continue;
    const int64_t row = dtype_bytes(v.dtype, v.dims[1]);
    for (int64_t head = 0; head < v.dims[0]; ++head)
      fn(offset + (head * kPageTokens + low - page * kPageTokens) * row, (high - low) * row);
    offset += (dtype_bytes(v.dtype, v.size() * kPageTokens) + 63) / 64 * 64;
  }
}

}  // namespace statespace
