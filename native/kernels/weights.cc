#include "kernels/weights.h"

#include "backend/kernels.h"
#include "core/blocks.h"
#include "kernels/matmul.h"
#include "kernels/quantised_panels.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

int64_t even(int64_t n) { return (n + 1) / 2 * 2; }

int64_t matrices(const Tensor& weight) {
  int64_t n = 1;
  for (int i = 0; i < weight.rank - 2; ++i) n *= weight[i];
  return n;
}

// to (in, kPanel) = from (n ≤ kPanel rows, in), transposed by squares of vectors; rows that are missing are 0.
template <class T>
void interleave_rows(const T* from, int64_t stride, int n, int64_t in, T* to) {
  const auto square = [&](int o, int64_t k, int columns, auto&& take) {
    F rows[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) rows[i] = take(i, from + (o + i) * stride + k);
    transpose(rows);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j)
      if (j < columns) store(to + (k + j) * kPanel + o, rows[j]);
  };
  for (int64_t k = 0; k < in; k += kLanes) {
    const int columns = in - k < kLanes ? int(in - k) : kLanes;
    for (int o = 0; o < kPanel; o += kLanes)
      if (columns == kLanes && o + kLanes <= n)
        square(o, k, kLanes, [](int, const T* row) {
          prefetch(row + 4 * kLanes);
          return load(row);
        });
      else
        square(o, k, columns, [&](int i, const T* row) {
          return o + i >= n ? zero() : columns < kLanes ? load(row, columns) : load(row);
        });
  }
}

// Pairs of neighbours move as one f32.
void interleave_pairs(const bf16_t* from, int64_t stride, int n, int64_t in, bf16_t* to) {
  for (int o = 0; o < kPanel; o += kLanes)
    for (int64_t k = 0; k < in; k += 2 * kLanes) {
      const int64_t left = in - k < 2 * kLanes ? in - k : 2 * kLanes;
      F square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const bf16_t* row = from + (o + i) * stride + k;
        alignas(64) bf16_t part[2 * kLanes] = {};
        const bool copied = left < 2 * kLanes || kLanes == 1;  // one lane is a plain float, which must be aligned
        if (o + i < n && copied) std::memcpy(part, row, left * sizeof(bf16_t));
        square[i] = o + i >= n ? zero() : load(reinterpret_cast<const float*>(copied ? part : row));
      }
      transpose(square);
      for (int64_t j = 0; j < (left + 1) / 2; ++j)
        store(reinterpret_cast<float*>(to) + (k / 2 + j) * kPanel + o, square[j]);
    }
}

// Values of one output out of a packed panel, or of one row: value(k), k in [0, in).
template <class Fn>
void copy_values(int64_t in, float* out, Fn&& value) {
  for (int64_t k = 0; k < in; ++k) out[k] = value(k);
}

void read_row(const Matrix& w, int64_t i, float* out) {
  const uint8_t* row = w.data + dtype_bytes(w.dtype, i * w.row_stride);
  if (is_quantised(w.dtype)) return decode_blocks(w.dtype, row, w.in, out);
  switch (w.dtype) {
    case DType::f16:
      return copy_values(w.in, out, [&](int64_t k) { return to_float(reinterpret_cast<const f16_t*>(row)[k]); });
    case DType::bf16:
      return copy_values(w.in, out, [&](int64_t k) { return to_float(reinterpret_cast<const bf16_t*>(row)[k]); });
    default:
      return copy_values(w.in, out, [&](int64_t k) { return reinterpret_cast<const float*>(row)[k]; });
  }
}

void read_packed(const Matrix& w, int64_t i, float* out) {
  const uint8_t* panel = w.panel(i / kPanel);
  const int64_t o = i % kPanel;
  if (is_quantised(w.dtype)) return read_quantised(w.dtype, panel, int(o), w.in, out);
  switch (w.dtype) {
    case DType::f16:
      return copy_values(w.in, out,
                         [&](int64_t k) { return to_float(reinterpret_cast<const f16_t*>(panel)[k * kPanel + o]); });
    case DType::bf16:
      return copy_values(w.in, out, [&](int64_t k) {
        return to_float(reinterpret_cast<const bf16_t*>(panel)[(k / 2 * kPanel + o) * 2 + k % 2]);
      });
    default:
      return copy_values(w.in, out, [&](int64_t k) { return reinterpret_cast<const float*>(panel)[k * kPanel + o]; });
  }
}

}  // namespace

int64_t panel_bytes(DType dtype, int64_t in) {
  if (is_quantised(dtype)) return in / dtype_block(dtype) * packed_block_bytes(dtype);
  return dtype_bytes(dtype, kPanel * (dtype == DType::bf16 ? even(in) : in));
}

Matrix matrix_of(const Tensor& weight, int64_t i) {
  Matrix m;
  m.out = weight[weight.rank - 2], m.in = weight[weight.rank - 1];
  m.dtype = weight.dtype, m.layout = weight.layout;
  m.row_stride = weight.rank == 2 ? weight.row_stride : m.in;
  const int64_t bytes =
      weight.layout == Layout::packed ? m.panels() * panel_bytes(m.dtype, m.in) : dtype_bytes(m.dtype, m.out * m.in);
  m.data = weight.as<uint8_t>() + i * bytes;
  return m;
}

void weight_row(const Tensor& weight, int64_t index, int64_t i, float* out) {
  const Matrix w = matrix_of(weight, index);
  w.layout == Layout::packed ? read_packed(w, i, out) : read_row(w, i, out);
}

void pack_panel(const Matrix& w, int64_t p, uint8_t* out) {
  const int n = w.out - p * kPanel < kPanel ? int(w.out - p * kPanel) : kPanel;
  const int64_t row_bytes = dtype_bytes(w.dtype, w.row_stride);
  const uint8_t* from = w.data + p * kPanel * row_bytes;
  if (is_quantised(w.dtype)) return pack_quantised(w.dtype, from, row_bytes, n, w.in, out);
  switch (w.dtype) {
    case DType::f16:
      return interleave_rows(reinterpret_cast<const f16_t*>(from), w.row_stride, n, w.in,
                             reinterpret_cast<f16_t*>(out));
    case DType::bf16:
      return interleave_pairs(reinterpret_cast<const bf16_t*>(from), w.row_stride, n, w.in,
                              reinterpret_cast<bf16_t*>(out));
    default:
      return interleave_rows(reinterpret_cast<const float*>(from), w.row_stride, n, w.in,
                             reinterpret_cast<float*>(out));
  }
}

Tensor packed(const Tensor& weight, int64_t* bytes) {
  Tensor t = weight;
  t.data = nullptr;
  t.layout = Layout::packed;
  const Matrix m = matrix_of(t);
  *bytes = matrices(weight) * m.panels() * panel_bytes(m.dtype, m.in);
  return t;
}

void pack(const Tensor& weight, const Tensor& packed, Context& cx) {
  const int64_t panels = matrix_of(packed).panels();
  cx.parallel_for(matrices(weight) * panels, [&](int64_t i, int) {
    const Matrix to = matrix_of(packed, i / panels);
    pack_panel(matrix_of(weight, i / panels), i % panels, const_cast<uint8_t*>(to.panel(i % panels)));
  });
}

}  // namespace statespace::STATESPACE_ISA
