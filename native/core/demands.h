#pragma once
// What an op asks of the program that feeds it. An op that asks for something has `Demands demands() const`; it is
// called once its attributes are set and its tensors have their types and shapes, those of the batch unknown.
#include <cstdint>

namespace statespace {

struct Demands {
  static constexpr int64_t kAllTokens = INT64_MAX;
  // It looks at tokens that come later, or at all at once: a sequence must be fed in one piece.
  bool whole_sequences = false;
  // Tokens that a sequence can have.
  int64_t longest = INT32_MAX;
  // Tokens whose rows in its caches it reads, the newest included; older ones may be forgotten.
  int64_t lookback = 0;
};

template <class Op>
Demands demands_of(const Op& op) {
  if constexpr (requires { op.demands(); }) return op.demands();
  return {};
}

}  // namespace statespace
