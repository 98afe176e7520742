#pragma once
// A view of typed memory. Plain data: op structs of these cross the backend ABI.
#include <cstddef>
#include <cstdint>

namespace statespace {

enum class DType : uint8_t { f32, f16, bf16, i32, q8_0, q4_0 };
constexpr int kDTypes = 6;

constexpr const char* dtype_name(DType t) {
  constexpr const char* kNames[kDTypes] = {"f32", "f16", "bf16", "i32", "q8_0", "q4_0"};
  return kNames[static_cast<int>(t)];
}

// Quantised types hold blocks of 32 values of the last axis (ggml layout): an f16 scale, then the quants.
constexpr int64_t kQuantBlock = 32;
constexpr int64_t dtype_bytes(DType t, int64_t count) {
  switch (t) {
    case DType::f16:
    case DType::bf16:
      return count * 2;
    case DType::q8_0:
      return count / kQuantBlock * 34;
    case DType::q4_0:
      return count / kQuantBlock * 18;
    default:
      return count * 4;
  }
}

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
