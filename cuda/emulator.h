#pragma once
// The emulated device: runs a kernel's threads as fibers of one host thread, one block after the other.
//
// A thread runs until it reaches a collective (barrier, shuffle, mma) and waits there. A warp's collective happens when
// all 32 lanes have reached the same call; a barrier when all threads of the block have. Where that cannot happen any
// more (a lane returned, or waits elsewhere) the launch ends with an error instead of a hang.
//
// STATESPACE_EMULATED_ORDER says in which order blocks, warps and lanes run: forward (default), reverse, or a number,
// the seed of orders that change after every collective. Shared memory starts as NaN; an asynchronous copy makes its
// target NaN at once and lands at its wait. A kernel is right when every order gives the same bits.
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

namespace statespace::cuda::emulated {

using Where = std::source_location;
constexpr int kWarp = 32;
constexpr size_t kMaxShared = 48 * 1024;

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
};

// Runs body(args) for every thread of every block. One launch runs at a time; failures go to fail_launch().
void run_grid(Dim3 grid, unsigned threads, void (*body)(const void* args), const void* args);

// Called by threads of a kernel.
[[noreturn]] void fail(std::string why, Where where);
void barrier(Where where);
// Waits for the other lanes of the warp; resolve(payloads) then sees one pointer per lane.
void collective(const char* what, void* payload, void (*resolve)(void* const* payloads), Where where);
void* shared_memory(size_t bytes);
// Whether [p, p + bytes) lies in what the block has asked for.
bool in_shared(const void* p, size_t bytes);
// `valid` of the `bytes` come from `from`, the rest is zero.
void copy_async(void* to, const void* from, size_t bytes, size_t valid, Where where);
void copy_async_commit();
void copy_async_wait(int groups_left);

// Device memory: what kernels may read and write. Fresh memory is NaN.
void* allocate(int64_t bytes);
bool release(void* p);
// Whether [p, p + bytes) lies in one allocation.
bool is_device_memory(const void* p, int64_t bytes);

}  // namespace statespace::cuda::emulated
