#pragma once
// A view of typed memory. Plain data: op structs of these cross the backend ABI.
#include <cstddef>
#include <cstdint>

namespace statespace {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  i32,
  // Quantised, in ggml's blocks (core/blocks.h), that weights are held and multiplied in:
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  // and those that files are only read in:
  q1_0,
  q2_0,
  tq1_0,
  tq2_0,
  iq1_s,
  iq1_m,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  nvfp4
};

struct DTypeInfo {
  const char* name;
  int block, bytes;  // values of the last axis that one block holds, and the bytes that it takes
};
constexpr DTypeInfo kDTypeInfo[] = {
    {"f32", 1, 4},        {"f16", 1, 2},        {"bf16", 1, 2},      {"i32", 1, 4},        {"q8_0", 32, 34},
    {"q4_0", 32, 18},     {"q4_1", 32, 20},     {"q5_0", 32, 22},    {"q5_1", 32, 24},     {"q2_k", 256, 84},
    {"q3_k", 256, 110},   {"q4_k", 256, 144},   {"q5_k", 256, 176},  {"q6_k", 256, 210},   {"iq4_nl", 32, 18},
    {"iq4_xs", 256, 136}, {"mxfp4", 32, 17},    {"q1_0", 128, 18},   {"q2_0", 64, 18},     {"tq1_0", 256, 54},
    {"tq2_0", 256, 66},   {"iq1_s", 256, 50},   {"iq1_m", 256, 56},  {"iq2_xxs", 256, 66}, {"iq2_xs", 256, 74},
    {"iq2_s", 256, 82},   {"iq3_xxs", 256, 98}, {"iq3_s", 256, 110}, {"nvfp4", 64, 36},
};
constexpr int kDTypes = sizeof kDTypeInfo / sizeof kDTypeInfo[0];
static_assert(kDTypes == int(DType::nvfp4) + 1);

constexpr const char* dtype_name(DType t) { return kDTypeInfo[int(t)].name; }
constexpr bool is_quantised(DType t) { return t >= DType::q8_0; }
// Whether weights can be held in it: anything but integers and what is only read.
constexpr bool is_held(DType t) { return t <= DType::mxfp4 && t != DType::i32; }
constexpr int64_t dtype_block(DType t) { return kDTypeInfo[int(t)].block; }
// Of whole blocks.
constexpr int64_t dtype_bytes(DType t, int64_t count) { return count / dtype_block(t) * kDTypeInfo[int(t)].bytes; }

constexpr int64_t kQuantBlock = 32;  // of q8_0 and q4_0

constexpr int kMaxRank = 5;

// How a weight matrix lies in memory. `packed` is private to the backend that made it (Backend::pack).
enum class Layout : uint8_t { rows, packed };

struct Tensor {
  void* data = nullptr;
  int64_t shape[kMaxRank] = {};
  int64_t row_stride = 0;  // elements between neighbours on axis 0; the axes inside are contiguous
  int32_t rank = 0;
  DType dtype = DType::f32;
  Layout layout = Layout::rows;

  explicit operator bool() const { return data != nullptr; }
  int64_t operator[](int axis) const { return shape[axis]; }

  // Values in one step of axis 0.
  int64_t row_size() const {
    int64_t n = 1;
    for (int i = 1; i < rank; ++i) n *= shape[i];
    return n;
  }
  int64_t size() const { return rank == 0 ? 1 : shape[0] * row_size(); }
  int64_t bytes() const { return dtype_bytes(dtype, size()); }

  template <class T>
  T* as() const {
    return static_cast<T*>(data);
  }
  float* f32() const { return static_cast<float*>(data); }
  const int32_t* i32() const { return static_cast<const int32_t*>(data); }
  // Row `i` of an f32 tensor.
  float* row(int64_t i) const { return f32() + i * row_stride; }
};

}  // namespace statespace
