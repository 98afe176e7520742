#include "program/plan.h"

#include <algorithm>

namespace statespace {
namespace {

constexpr int64_t kAlign = 64;

struct Block {
  int64_t offset, bytes;
  int last_use;
};

}  // namespace

Plan plan_activations(const Graph& g) {
  const int count = int(g.values.size());
  std::vector<int> last(count, -1);
  for (int n = 0; n < int(g.nodes.size()); ++n)
    for (int32_t id : g.nodes[n].values)
      if (id >= 0) last[g.root(id)] = n;
  last[g.output] = int(g.nodes.size());

  Plan plan;
  plan.offset.assign(count, -1);
  std::vector<Block> busy[kBatchDims];  // by offset
  for (int n = 0; n < int(g.nodes.size()); ++n) {
    for (int32_t id : g.nodes[n].values) {
      if (id < 0) continue;
      const int32_t root = g.root(id);
      const Value& v = g.values[root];
      if (v.kind != ValueKind::activation || plan.offset[root] >= 0) continue;
      const int dim = batch_dim(v.dims[0]);
      auto& blocks = busy[dim];
      std::erase_if(blocks, [&](const Block& b) { return b.last_use < n; });
      const int64_t bytes = (dtype_bytes(v.dtype, v.row_size()) + kAlign - 1) / kAlign * kAlign;
      int64_t at = 0;  // first fit
      auto next = blocks.begin();
      for (; next != blocks.end() && next->offset - at < bytes; ++next) at = next->offset + next->bytes;
      blocks.insert(next, {at, bytes, last[root]});
      plan.offset[root] = at;
      plan.row_bytes[dim] = std::max(plan.row_bytes[dim], at + bytes);
    }
  }
  return plan;
}

}  // namespace statespace
