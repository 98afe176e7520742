#include "kernels/weights.h"

#include "backend/kernels.h"
#include "kernels/matmul.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

template <class T>
void widen(const T* from, int64_t n, float* out) {
  int64_t k = 0;
  for (; k + kLanes <= n; k += kLanes) store(out + k, load(from + k));
  if (k < n) store(out + k, load(from + k, int(n - k)), int(n - k));
}

f16_t read_f16(const uint8_t* p) { return {uint16_t(p[0] | p[1] << 8)}; }

// ggml blocks of 32: an f16 scale, then 32 int8 or 16 bytes of nibbles (low ones are the first 16 values).
void widen_q8_0(const uint8_t* block, int64_t n, float* out) {
  for (int64_t k = 0; k < n; k += kQuantBlock, block += 34) {
    const float scale = to_float(read_f16(block));
    for (int i = 0; i < kQuantBlock; ++i) out[k + i] = scale * float(int8_t(block[2 + i]));
  }
}
void widen_q4_0(const uint8_t* block, int64_t n, float* out) {
  for (int64_t k = 0; k < n; k += kQuantBlock, block += 18) {
    const float scale = to_float(read_f16(block));
    for (int i = 0; i < 16; ++i) {
      out[k + i] = scale * float((block[2 + i] & 15) - 8);
      out[k + 16 + i] = scale * float((block[2 + i] >> 4) - 8);
    }
  }
}

// out = values [k, k + n) of row `i` of a weight in rows; k and n are multiples of 32 or reach the end.
void widen_row(const Tensor& w, int64_t i, int64_t k, int64_t n, float* out) {
  const int64_t at = i * w.row_stride + k;
  switch (w.dtype) {
    case DType::f32:
      return widen(w.as<float>() + at, n, out);
    case DType::f16:
      return widen(w.as<f16_t>() + at, n, out);
    case DType::bf16:
      return widen(w.as<bf16_t>() + at, n, out);
    case DType::q8_0:
      return widen_q8_0(w.as<uint8_t>() + dtype_bytes(w.dtype, at), n, out);
    case DType::q4_0:
      return widen_q4_0(w.as<uint8_t>() + dtype_bytes(w.dtype, at), n, out);
    case DType::i32:
      return;
  }
}

}  // namespace

void weight_row(const Tensor& weight, int64_t i, float* out) { widen_row(weight, i, 0, weight[1], out); }

void gather_panel(const Tensor& weight, int64_t p, float* out) {
  constexpr int64_t kStep = 64;
  const int64_t in = weight[1];
  alignas(64) float rows[kPanel][kStep] = {};
  for (int64_t k = 0; k < in; k += kStep) {
    const int64_t n = in - k < kStep ? in - k : kStep;
    for (int o = 0; o < kPanel && p * kPanel + o < weight[0]; ++o) widen_row(weight, p * kPanel + o, k, n, rows[o]);
    for (int64_t j = 0; j < n; ++j)
      for (int o = 0; o < kPanel; ++o) out[(k + j) * kPanel + o] = rows[o][j];
  }
}

Tensor packed(const Tensor& weight, int64_t* bytes) {
  Tensor t = weight;
  t.data = nullptr;
  *bytes = weight.bytes();
  return t;
}

void pack(const Tensor& weight, const Tensor& packed, Context&) {
  std::memcpy(packed.data, weight.data, weight.bytes());
}

}  // namespace statespace::STATESPACE_ISA
