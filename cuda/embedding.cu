#include "ops/embedding.h"
#include "pointwise.h"
#include "runtime.h"
#include "tables.h"

namespace statespace::cuda {
namespace {

template <class Table_>
struct Embedded {
  Table_ table;
  global<const int32_t> ids;
  Rows<float> y;
  float scale;

  template <int W>
  __device__ void at(int64_t t, int64_t c) const {
    Vec<W> v;
#pragma unroll
    for (int i = 0; i < W; ++i) v.v[i] = scale * table.value(ids[t], c + i);
    store(y[t], c, v);
  }
};

struct EmbeddingGradientArgs {
  global<const int32_t> ids;
  Rows<const float> dy;
  Rows<float> dweight;
  int64_t tokens, vocab, d_model;
  float scale;
  bool add;
};

// A channel of all rows: tokens in their order.
__global__ void __launch_bounds__(kPointwiseThreads) embedding_gradient(EmbeddingGradientArgs a) {
  const int64_t c = int64_t(blockIdx.x) * kPointwiseThreads + threadIdx.x;
  if (c >= a.d_model) return;
  for (int64_t i = 0; !a.add && i < a.vocab; ++i) a.dweight[i][c] = 0;
  for (int64_t t = 0; t < a.tokens; ++t) a.dweight[a.ids[t]][c] += a.scale * a.dy[t][c];
}

}  // namespace

template <>
void run(const EmbeddingBackward& op) {
  if (!op.dweight) return;
  launch(embedding_gradient, {ceil_div(op.dweight[1], kPointwiseThreads)}, kPointwiseThreads,
         {global_data<const int32_t>(op.ids), op.dy, op.dweight, op.dy[0], op.dweight[0], op.dweight[1], op.scale,
          op.accumulate});
}

template <>
void run(const Embedding& op) {
  with_table(op.weight, [&](auto table) {
    const Embedded<decltype(table)> rows{table, global_data<const int32_t>(op.ids), op.y, op.scale};
    launch_pointwise(rows, op.y[0], op.y[1], by_fours(op.y));
  });
}

}  // namespace statespace::cuda
