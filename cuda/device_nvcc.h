#pragma once
// device.h for nvcc: the only place with PTX.
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <string>
#include <type_traits>

namespace statespace::cuda {

cudaStream_t stream();
int multiprocessors();
// True when a call failed, which is then recorded.
bool failed(cudaError_t status, const char* what);

template <class T>
using global = T*;

template <class T>
__device__ __forceinline__ T* at(T* p, int64_t i, int) {
  return p + i;
}

template <class T>
global<T> global_data(const Tensor& t) {
  return static_cast<T*>(t.data);
}

template <class S>
__device__ __forceinline__ S& shared() {
  static_assert(sizeof(S) <= 48 * 1024, "more shared memory than every device has");
  __shared__ __align__(128) unsigned char bytes[sizeof(S)];
  return *reinterpret_cast<S*>(bytes);
}

__device__ __forceinline__ int lane() { return int(threadIdx.x % 32); }
__device__ __forceinline__ int warp() { return int(threadIdx.x / 32); }

__device__ __forceinline__ void barrier() { __syncthreads(); }
__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

// Moves a value of several words with one shuffle a word.
template <class T, class Move>
__device__ __forceinline__ T exchange(T v, Move move) {
  static_assert(sizeof(T) % 4 == 0);
  union Words {
    T value;
    uint32_t words[sizeof(T) / 4];
    __device__ Words() {}
  } w;
  w.value = v;
#pragma unroll
  for (int i = 0; i < int(sizeof(T) / 4); ++i) w.words[i] = move(w.words[i]);
  return w.value;
}
template <class T>
__device__ __forceinline__ T shuffle(T v, int source) {
  return exchange(v, [=](uint32_t w) { return __shfl_sync(0xffffffffu, w, source); });
}
template <class T>
__device__ __forceinline__ T shuffle_up(T v, int n) {
  return exchange(v, [=](uint32_t w) { return __shfl_up_sync(0xffffffffu, w, n); });
}
template <class T>
__device__ __forceinline__ T shuffle_down(T v, int n) {
  return exchange(v, [=](uint32_t w) { return __shfl_down_sync(0xffffffffu, w, n); });
}
template <class T>
__device__ __forceinline__ T shuffle_xor(T v, int mask) {
  return exchange(v, [=](uint32_t w) { return __shfl_xor_sync(0xffffffffu, w, mask); });
}

__device__ __forceinline__ uint32_t ballot(bool p) { return __ballot_sync(0xffffffffu, p); }
__device__ __forceinline__ bool any(bool p) { return __any_sync(0xffffffffu, p); }
__device__ __forceinline__ bool all(bool p) { return __all_sync(0xffffffffu, p); }

// sm_75 has no asynchronous copy: there it is a load and a store, done at once.
template <int kBytes>
__device__ __forceinline__ void copy_async(void* to, const void* from, int valid = kBytes) {
  static_assert(kBytes == 4 || kBytes == 8 || kBytes == 16);
#if __CUDA_ARCH__ >= 800
  const auto address = uint32_t(__cvta_generic_to_shared(to));
  if constexpr (kBytes == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from), "r"(valid) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from), "n"(kBytes), "r"(valid)
                 : "memory");
#else
  using Word = std::conditional_t<kBytes == 16, uint4, std::conditional_t<kBytes == 8, uint2, uint32_t> >;
  if (valid == kBytes) {
    *static_cast<Word*>(to) = *static_cast<const Word*>(from);
  } else {
    for (int i = 0; i < kBytes; ++i)
      static_cast<char*>(to)[i] = i < valid ? static_cast<const char*>(from)[i] : char(0);
  }
#endif
}
__device__ __forceinline__ void copy_async_commit() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int kGroupsLeft>
__device__ __forceinline__ void copy_async_wait() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(kGroupsLeft) : "memory");
#endif
}

using f16 = __half;
using bf16 = __nv_bfloat16;

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float to_float(f16 x) { return __half2float(x); }

template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (std::is_same_v<T, bf16>)
    return __float2bfloat16_rn(x);
  else if constexpr (std::is_same_v<T, f16>)
    return __float2half_rn(x);
  else
    return x;
}

template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  uint32_t word;
  if constexpr (std::is_same_v<T, bf16>) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&word, &pair, 4);
  } else {
    const __half2 pair = __floats2half2_rn(low, high);
    memcpy(&word, &pair, 4);
  }
  return word;
}

template <class T>
__device__ __forceinline__ float half_of(uint32_t word, int high) {
  const uint16_t bits = uint16_t(word >> 16 * high);
  T value;
  memcpy(&value, &bits, 2);
  return to_float(value);
}

// sm_75 multiplies f16 in steps of 8 columns, and knows no bf16: there the words travel by shuffles.
template <class T>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  if constexpr (std::is_same_v<T, bf16>)
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
  if constexpr (std::is_same_v<T, f16>) {
#pragma unroll
    for (int k = 0; k < 2; ++k)
      asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
          : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
          : "r"(a[2 * k]), "r"(a[2 * k + 1]), "r"(b[k]));
  } else {
    const int row = lane() & 28, columns = (lane() & 3) * 8;  // first lanes that hold this row, and column 2t
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const int word = i / 8, source = i / 2 % 4;
      const float top = half_of<T>(shuffle(a[2 * word], row + source), i % 2);
      const float bottom = half_of<T>(shuffle(a[2 * word + 1], row + source), i % 2);
      const float left = half_of<T>(shuffle(b[word], columns + source), i % 2);
      const float right = half_of<T>(shuffle(b[word], columns + 4 + source), i % 2);
      d[0] += top * left, d[1] += top * right, d[2] += bottom * left, d[3] += bottom * right;
    }
  }
#endif
}

// Nearest, ties away from zero; sm_75 has no such type and multiplies what it is given.
__device__ __forceinline__ float tf32(float x) {
#if __CUDA_ARCH__ >= 800
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return __uint_as_float((__float_as_uint(x) + 0x1000) & 0xffffe000);
#endif
}

__device__ __forceinline__ void mma_tf32(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
#else
  const int row = lane() & 28, columns = (lane() & 3) * 8;  // first lanes that hold this row, and column 2t
#pragma unroll
  for (int k = 0; k < 8; ++k) {
    const int half = k / 4, source = k % 4;
    const float top = shuffle(a[2 * half], row + source), bottom = shuffle(a[2 * half + 1], row + source);
    const float left = shuffle(b[half], columns + source), right = shuffle(b[half], columns + 4 + source);
    d[0] += top * left, d[1] += top * right, d[2] += bottom * left, d[3] += bottom * right;
  }
#endif
}

__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(uint32_t(__cvta_generic_to_shared(row)))
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(uint32_t(__cvta_generic_to_shared(row)))
               : "memory");
}

__device__ __forceinline__ int32_t atomic_add(int32_t* p, int64_t i, int32_t v) { return atomicAdd(p + i, v); }

template <class Args>
void launch(void (*kernel)(Args), Grid grid, int threads, const std::type_identity_t<Args>& args) {
  if (grid.x <= 0 || grid.y <= 0 || grid.z <= 0) return;
  if (grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535) return fail_launch("the grid is too large");
  void* parameters[] = {const_cast<Args*>(&args)};
  failed(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(grid.x, grid.y, grid.z), dim3(threads),
                          parameters, 0, stream()),
         "launch");
}

template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count) {
    if (failed(cudaMallocAsync(&p_, count * sizeof(T), stream()), "scratch memory")) throw std::string("out of memory");
  }
  ~Scratch() { failed(cudaFreeAsync(p_, stream()), "free"); }
  Scratch(const Scratch&) = delete;
  global<T> data() const { return static_cast<T*>(p_); }

 private:
  void* p_ = nullptr;
};

}  // namespace statespace::cuda
