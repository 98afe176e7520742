#pragma once
// device.h for the host's compiler; see emulator.h for what the device does.
#include <cmath>
#include <cstring>
#include <string>
#include <type_traits>

#include "emulator.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)

namespace statespace::cuda {

using emulated::Where;
extern emulated::Dim3 threadIdx, blockIdx, blockDim, gridDim;

// A pointer that knows its tensor: what lies outside ends the launch.
template <class T>
class global {
 public:
  global() = default;
  global(std::nullptr_t) {}
  global(T* p, T* begin, T* end) : p_(p), begin_(begin), end_(end) {}
  template <class U>
  requires std::is_convertible_v<U*, T*> global(const global<U>& other)
      : p_(other.get()), begin_(other.begin()), end_(other.end()) {}

  T& operator[](int64_t i) const { return *checked(i, 1); }
  T& operator*() const { return *checked(0, 1); }
  T* checked(int64_t i, int64_t count, Where where = {}) const {
    T* p = p_ + i;
    if (!(p >= begin_ && p + count <= end_))
      emulated::fail(
          "touches element " + std::to_string(p - begin_) + " of a tensor of " + std::to_string(end_ - begin_), where);
    return p;
  }
  global operator+(int64_t i) const { return {p_ + i, begin_, end_}; }
  global operator-(int64_t i) const { return {p_ - i, begin_, end_}; }
  global& operator+=(int64_t i) { return p_ += i, *this; }
  explicit operator bool() const { return p_ != nullptr; }
  T* get() const { return p_; }
  T* begin() const { return begin_; }
  T* end() const { return end_; }

 private:
  T* p_ = nullptr;
  T* begin_ = nullptr;
  T* end_ = nullptr;
};

template <class T>
T* at(const global<T>& p, int64_t i, int64_t count, Where where = Where::current()) {
  return p.checked(i, count, where);
}

// The tensor's memory; throws where that is not the device's.
template <class T>
global<T> global_data(const Tensor& t) {
  if (!t) return nullptr;
  const int64_t rows = t.rank ? t.shape[0] : 1;
  const int64_t bytes = rows == 0 ? 0 : dtype_bytes(t.dtype, (rows - 1) * t.row_stride + t.row_size());
  if (bytes > 0 && !emulated::is_device_memory(t.data, bytes))
    throw std::string("a tensor that is not in device memory");
  auto* p = static_cast<T*>(t.data);
  return {p, p, p + bytes / int64_t(sizeof(T))};
}

template <class S>
S& shared() {
  static_assert(sizeof(S) <= emulated::kMaxShared, "more shared memory than every device has");
  return *static_cast<S*>(emulated::shared_memory(sizeof(S)));
}

inline int lane() { return int(threadIdx.x % 32); }
inline int warp() { return int(threadIdx.x / 32); }

inline void barrier(Where where = Where::current()) { emulated::barrier(where); }
inline void warp_barrier(Where where = Where::current()) {
  emulated::collective(
      "warp_barrier", nullptr, [](void* const*) {}, where);
}

namespace emulated {

template <class T>
struct Exchange {
  T value;
  int source;
  T result;
};

template <class T>
T exchange(const char* what, T value, int source, Where where) {
  static_assert(sizeof(T) % 4 == 0);
  Exchange<T> mine{value, source, value};
  collective(
      what, &mine,
      [](void* const* all) {
        for (int i = 0; i < kWarp; ++i) {
          auto* e = static_cast<Exchange<T>*>(all[i]);
          e->result = static_cast<Exchange<T>*>(all[e->source])->value;
        }
      },
      where);
  return mine.result;
}

}  // namespace emulated

template <class T>
T shuffle(T v, int source, Where where = Where::current()) {
  return emulated::exchange("shuffle", v, source & 31, where);
}
template <class T>
T shuffle_up(T v, int n, Where where = Where::current()) {
  return emulated::exchange("shuffle_up", v, lane() >= n ? lane() - n : lane(), where);
}
template <class T>
T shuffle_down(T v, int n, Where where = Where::current()) {
  return emulated::exchange("shuffle_down", v, lane() + n < 32 ? lane() + n : lane(), where);
}
template <class T>
T shuffle_xor(T v, int mask, Where where = Where::current()) {
  return emulated::exchange("shuffle_xor", v, (lane() ^ mask) & 31, where);
}

inline uint32_t ballot(bool p, Where where = Where::current()) {
  struct Vote {
    bool p;
    uint32_t result;
  } mine{p, 0};
  emulated::collective(
      "ballot", &mine,
      [](void* const* all) {
        uint32_t votes = 0;
        for (int i = 0; i < 32; ++i) votes |= uint32_t(static_cast<Vote*>(all[i])->p) << i;
        for (int i = 0; i < 32; ++i) static_cast<Vote*>(all[i])->result = votes;
      },
      where);
  return mine.result;
}
inline bool any(bool p, Where where = Where::current()) { return ballot(p, where) != 0; }
inline bool all(bool p, Where where = Where::current()) { return ballot(p, where) == 0xffffffffu; }

template <int kBytes>
void copy_async(void* to, const void* from, int valid = kBytes, Where where = Where::current()) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
  emulated::copy_async(to, from, kBytes, size_t(valid), where);
}
inline void copy_async_commit() { emulated::copy_async_commit(); }
template <int kGroupsLeft>
void copy_async_wait() {
  emulated::copy_async_wait(kGroupsLeft);
}

struct f16 {
  uint16_t bits;
};
struct bf16 {
  uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) {
  const uint32_t u = uint32_t(x.bits) << 16;
  float f;
  std::memcpy(&f, &u, 4);
  return f;
}
inline float to_float(f16 x) {
  const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  const float size = exponent == 31 ? (mantissa ? NAN : INFINITY)
                     : exponent     ? std::ldexp(float(mantissa + 1024), exponent - 25)
                                    : std::ldexp(float(mantissa), -24);
  return x.bits & 0x8000 ? -size : size;
}

// Rounds to nearest even, as the GPU does.
template <class T>
T from_float(float x);
template <>
inline float from_float(float x) {
  return x;
}
template <>
inline bf16 from_float(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  if (std::isnan(x)) return {0x7fff};
  return {uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16)};
}
template <>
inline f16 from_float(float x) {
  if (std::isnan(x)) return {0x7fff};
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const float size = std::fabs(x);
  if (size >= 65520.f) return {uint16_t(sign | 0x7c00)};
  if (size == 0) return {sign};
  int exponent;
  std::frexp(size, &exponent);  // size = m · 2^exponent, m in [1/2, 1)
  const int unit = std::max(exponent - 11, -24);
  const int steps = int(std::nearbyint(std::ldexp(size, -unit)));  // may reach 2048, which carries into the exponent
  return {uint16_t(sign + (unit == -24 ? steps : steps - 1024 + ((unit + 25) << 10)))};
}

template <class T>
uint32_t pack2(float low, float high) {
  return from_float<T>(low).bits | uint32_t(from_float<T>(high).bits) << 16;
}

// The PTX manual's fragments of mma.m16n8k16, with g = lane / 4 and t = lane % 4: word i of a holds row g + 8·(i % 2),
// columns 2t + 8·(i / 2) and the next; word i of b rows 2t + 8i and the next of column g; value i of d row g + 8·(i /
// 2), column 2t + i % 2.
template <class T>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Where where = Where::current()) {
  struct Fragments {
    float d[4];
    uint32_t a[4], b[2];
  } mine;
  std::memcpy(mine.d, d, sizeof(d));
  std::memcpy(mine.a, a, sizeof(a));
  std::memcpy(mine.b, b, sizeof(b));
  emulated::collective(
      std::is_same_v<T, bf16> ? "mma<bf16>" : "mma<f16>", &mine,
      [](void* const* all) {
        float A[16][16], B[16][8];
        for (int l = 0; l < 32; ++l) {
          const auto* f = static_cast<Fragments*>(all[l]);
          const int g = l / 4, t = l % 4;
          for (int half = 0; half < 2; ++half) {
            for (int i = 0; i < 4; ++i)
              A[g + 8 * (i % 2)][2 * t + 8 * (i / 2) + half] = to_float(T{uint16_t(f->a[i] >> 16 * half)});
            for (int i = 0; i < 2; ++i) B[2 * t + 8 * i + half][g] = to_float(T{uint16_t(f->b[i] >> 16 * half)});
          }
        }
        for (int l = 0; l < 32; ++l) {
          auto* f = static_cast<Fragments*>(all[l]);
          for (int i = 0; i < 4; ++i)
            for (int k = 0; k < 16; ++k) f->d[i] += A[l / 4 + 8 * (i / 2)][k] * B[k][2 * (l % 4) + i % 2];
        }
      },
      where);
  std::memcpy(d, mine.d, sizeof(d));
}

inline float tf32(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  if (std::isfinite(x)) u = (u + 0x1000) & 0xffffe000;
  std::memcpy(&x, &u, 4);
  return x;
}

// m16n8k8: value i of a holds row g + 8·(i % 2), column t + 4·(i / 2); value i of b row t + 4i of column g; d as above.
// A value that tf32() has not rounded is NaN here; a GPU drops the bits that it lacks.
inline void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2], Where where = Where::current()) {
  struct Fragments {
    float d[4], a[4], b[2];
  } mine;
  std::memcpy(mine.d, d, sizeof(d));
  std::memcpy(mine.a, a, sizeof(a));
  std::memcpy(mine.b, b, sizeof(b));
  emulated::collective(
      "mma_tf32", &mine,
      [](void* const* all) {
        float A[16][8], B[8][8];
        auto operand = [](float x) { return tf32(x) == x || !std::isfinite(x) ? x : NAN; };
        for (int l = 0; l < 32; ++l) {
          const auto* f = static_cast<Fragments*>(all[l]);
          const int g = l / 4, t = l % 4;
          for (int i = 0; i < 4; ++i) A[g + 8 * (i % 2)][t + 4 * (i / 2)] = operand(f->a[i]);
          for (int i = 0; i < 2; ++i) B[t + 4 * i][g] = operand(f->b[i]);
        }
        for (int l = 0; l < 32; ++l) {
          auto* f = static_cast<Fragments*>(all[l]);
          for (int i = 0; i < 4; ++i)
            for (int k = 0; k < 8; ++k) f->d[i] += A[l / 4 + 8 * (i / 2)][k] * B[k][2 * (l % 4) + i % 2];
        }
      },
      where);
  std::memcpy(d, mine.d, sizeof(d));
}

namespace emulated {

// ldmatrix.x4: word m of lane l is row l / 4, columns 2·(l % 4) and the next of matrix m; or of its transpose.
template <bool kTransposed>
void load_matrices(uint32_t (&r)[4], const void* row, Where where) {
  if (!in_shared(row, 16) || reinterpret_cast<uintptr_t>(row) % 16)
    fail("a matrix row that is not 16 aligned bytes of shared memory", where);
  struct Rows {
    const void* row;
    uint32_t r[4];
  } mine{row, {}};
  collective(
      kTransposed ? "load_matrices_transposed" : "load_matrices", &mine,
      [](void* const* all) {
        for (int m = 0; m < 4; ++m) {
          uint16_t matrix[8][8];
          for (int i = 0; i < 8; ++i) std::memcpy(matrix[i], static_cast<Rows*>(all[8 * m + i])->row, 16);
          for (int l = 0; l < 32; ++l) {
            const int i = l / 4, j = 2 * (l % 4);
            const uint16_t low = kTransposed ? matrix[j][i] : matrix[i][j];
            const uint16_t high = kTransposed ? matrix[j + 1][i] : matrix[i][j + 1];
            static_cast<Rows*>(all[l])->r[m] = low | uint32_t(high) << 16;
          }
        }
      },
      where);
  std::memcpy(r, mine.r, sizeof(r));
}

}  // namespace emulated

inline void load_matrices(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulated::load_matrices<false>(r, row, where);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row, Where where = Where::current()) {
  emulated::load_matrices<true>(r, row, where);
}

inline int32_t atomic_add(const global<int32_t>& p, int64_t i, int32_t v, Where where = Where::current()) {
  int32_t* address = p.checked(i, 1, where);
  const int32_t old = *address;
  *address += v;
  return old;
}

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline void sincospi(double x, double* s, double* c) {
  constexpr double kPi = 3.14159265358979323846;
  *s = std::sin(kPi * x), *c = std::cos(kPi * x);
}

template <class Args>
void launch(void (*kernel)(Args), Grid grid, int threads, const std::type_identity_t<Args>& args) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return fail_launch("the grid is too large");
  struct Call {
    void (*kernel)(Args);
    const Args& args;
  } call{kernel, args};
  emulated::run_grid(
      {unsigned(grid.x), unsigned(grid.y), unsigned(grid.z)}, unsigned(threads),
      [](const void* p) {
        const auto& c = *static_cast<const Call*>(p);
        c.kernel(c.args);
      },
      &call);
}

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) : p_(static_cast<T*>(emulated::allocate(count * sizeof(T)))), count_(count) {
    if (!p_) throw std::string("out of memory");
  }
  ~Scratch() { emulated::release(p_); }
  Scratch(const Scratch&) = delete;
  global<T> data() const { return {p_, p_, p_ + count_}; }

 private:
  T* p_;
  int64_t count_;
};

// Few, so that kernels which split their work to fill a device do so on small inputs too.
inline int multiprocessors() { return 8; }

}  // namespace statespace::cuda
