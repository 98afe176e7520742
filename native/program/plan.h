#pragma once
// Where activations lie. All activations of one batch dim scale alike, so offsets are planned once, per row of that
// dim: a value's address is arena + offset · rows. Values whose lifetimes do not touch share memory.
#include <vector>

#include "program/graph.h"

namespace statespace {

struct Plan {
  std::vector<int64_t> offset;         // per value (activations only): bytes per row of its batch dim
  int64_t row_bytes[kBatchDims] = {};  // arena size per row, for tokens, outputs, sequences
};

Plan plan_activations(const Graph& g);

constexpr int batch_dim(int64_t dim) { return int(-1 - dim); }

}  // namespace statespace
