#pragma once
// All that a kernel may include, and how a launcher starts it. The same text is compiled by nvcc (device_nvcc.h) and by
// the host's compiler for the emulated device (device_emulated.h, which catches what a GPU would leave undefined).
// Both give, besides __global__, __device__, __launch_bounds__, threadIdx, blockIdx and gridDim:
//
//   global<T>                  pointer to device memory; bounds-checked on the emulated device
//   at(p, i, n)                p + i as a plain pointer to n values, checked once; for vector and async copies
//   shared<S>()                the block's `struct Shared`; one per kernel, at most 48 KB, starts as NaN when emulated
//   barrier()  warp_barrier()  all threads of the block, of the warp
//   shuffle(v, lane) shuffle_up(v, n) shuffle_down(v, n) shuffle_xor(v, mask)      any value of 4-byte words; all 32
//   any(p) all(p) ballot(p)    lanes take part in each: predicate the work, never return before one
//   copy_async<bytes>(to, from, valid)   4, 8 or 16 bytes into shared memory, the last bytes - valid zero
//   copy_async_commit() copy_async_wait<groups_left>()
//   mma(d, a, b)               d += a·b, m16n8k16, f32 accumulators; a and b pack two bf16 or f16 a word: mma<bf16>
//   mma_tf32(d, a, b)          the same as m16n8k8 of f32 values that tf32(x) has rounded to 11 significant bits
//   load_matrices(r, row)      four 8 x 8 matrices of halves from shared memory into fragments; lane l gives the
//   address load_matrices_transposed   of row l % 8 (16 bytes, aligned) of matrix l / 8 f16 bf16 storage; to_float(x),
//   from_float<T>(x), pack2<T>(low, high) atomic_add(p, v)           on int32; returns the old value. Floats would sum
//   in an order of their own launch(kernel, grid, threads, args)  one argument struct; errors surface through
//   Backend::finish() Scratch<T>(count)          device memory until the launches made so far have run
//   multiprocessors()          of the device
//
// Blocks of a launch do not talk to each other.
#include <cstdint>
#include <string>

#include "core/tensor.h"

namespace statespace::cuda {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};

// Records why an op failed, for Backend::finish(): the first reason stays.
void fail_launch(const std::string& why);

}  // namespace statespace::cuda

#if defined(__CUDACC__)
#include "device_nvcc.h"
#else
#include "device_emulated.h"
#endif
