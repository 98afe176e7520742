#include "ops/embedding.h"
#include "pointwise.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// A row of the table, by what it is held as.
template <class T>
struct Table {
  Rows<const T> rows;
  explicit Table(const Tensor& t) : rows(t) {}
  __device__ float value(int64_t id, int64_t c) const { return to_float(rows[id][c]); }
};

// ggml's blocks of 32 values: an f16 scale, then 32 int8, or 16 bytes with a value in each half.
struct Quantised {
  global<const uint8_t> data;
  int64_t d_model;
  bool four_bits;

  explicit Quantised(const Tensor& t)
      : data(global_data<const uint8_t>(t)), d_model(t[1]), four_bits(t.dtype == DType::q4_0) {}
  __device__ float value(int64_t id, int64_t c) const {
    const int i = int(c % kQuantBlock);
    const auto block = data + (id * d_model + c) / kQuantBlock * (four_bits ? 18 : 34);
    const uint16_t bits = uint16_t(block[0] | block[1] << 8);
    f16 scale;
    memcpy(&scale, &bits, 2);
    const int quant = four_bits ? int(block[2 + i % 16] >> (i < 16 ? 0 : 4) & 15) - 8 : int(int8_t(block[2 + i]));
    return to_float(scale) * float(quant);
  }
};

template <class Rows_>
struct Embedded {
  Rows_ table;
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

template <class Table_>
void embed(const Embedding& op) {
  launch_pointwise(Embedded<Table_>{Table_(op.weight), global_data<const int32_t>(op.ids), op.y, op.scale}, op.y[0],
                   op.y[1], by_fours(op.y));
}

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
  switch (op.weight.dtype) {
    case DType::f32:
      return embed<Table<float>>(op);
    case DType::f16:
      return embed<Table<f16>>(op);
    case DType::bf16:
      return embed<Table<bf16>>(op);
    default:
      return embed<Quantised>(op);
  }
}

}  // namespace statespace::cuda
