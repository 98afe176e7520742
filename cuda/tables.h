#pragma once
// Rows looked up in a table of weights, by what it is held as: table.value(row, channel).
#include "weights.h"

namespace statespace::cuda {

template <class T>
struct Table {
  Rows<const T> rows;
  explicit Table(const Tensor& t) : rows(t) {}
  __device__ float value(int64_t id, int64_t c) const { return to_float(rows[id][c]); }
};

// ggml's blocks of 32 values: an f16 scale, then 32 int8, or 16 bytes with a value in each half.
struct QuantisedTable {
  global<const uint8_t> data;
  int64_t d_model;
  bool four_bits;

  explicit QuantisedTable(const Tensor& t)
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

// fn(table): with the table that the weight's type calls for.
template <class Fn>
void with_table(const Tensor& weight, const Fn& fn) {
  switch (weight.dtype) {
    case DType::f32:
      return fn(Table<float>(weight));
    case DType::f16:
      return fn(Table<f16>(weight));
    case DType::bf16:
      return fn(Table<bf16>(weight));
    default:
      return fn(QuantisedTable(weight));
  }
}

}  // namespace statespace::cuda
