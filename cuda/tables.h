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

template <Quantised W>
struct QuantisedTable {
  global<const uint8_t> data;
  int64_t d_model;

  explicit QuantisedTable(const Tensor& t) : data(global_data<const uint8_t>(t)), d_model(t[1]) {}
  __device__ float value(int64_t id, int64_t c) const { return quantised_value<W>(data, id * d_model + c); }
};

// fn(table): with the table that the weight's type calls for.
template <class Fn>
void with_table(const Tensor& weight, const Fn& fn) {
  with_weight(weight.dtype, [&]<class W>() {
    if constexpr (kQuantised<W>)
      fn(QuantisedTable<W>(weight));
    else
      fn(Table<W>(weight));
  });
}

}  // namespace statespace::cuda
