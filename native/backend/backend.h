#pragma once
// A backend: one function per op, and the memory that its kernels read. The CPU instruction sets, the CUDA library and
// the emulated device all fill this table; CUDA's crosses a dlopen, so it is plain data and carries its ABI number.
#include <cstdint>
#include <mutex>
#include <string>

#include "core/context.h"
#include "core/tensor.h"
#include "ops/ops.h"

namespace statespace {

// Changes with this struct, Tensor, Context, or the meaning of a field; the ops have their fingerprint.
constexpr uint32_t kBackendAbi = 4;

struct Device {
  char name[128] = "";
  int32_t capability_major = 0, capability_minor = 0;
  int64_t memory_bytes = 0;
};

struct Backend {
  uint32_t abi = kBackendAbi;
  int32_t op_count = kOpCount;
  uint32_t ops_fingerprint = kOpsFingerprint;
  const char* name = "";
  bool host_memory = true;  // kernels read ordinary memory: alloc and copies are plain
  Device device;            // where it is not the CPU

  // run[op_id](&op, context). The op has been checked. Device backends enqueue and return.
  using Run = void (*)(const void* op, Context& cx);
  Run run[kOpCount] = {};

  // Weight matrices are laid out once at load. packed() says what a (rows) weight becomes: dtype and layout, and its
  // bytes; pack() does it. A backend that keeps rows returns the weight unchanged.
  Tensor (*packed)(const Tensor& weight, int64_t* bytes) = nullptr;
  void (*pack)(const Tensor& weight, const Tensor& packed, Context& cx) = nullptr;

  // Memory of the device. nullptr from alloc: out of memory.
  void* (*alloc)(int64_t bytes) = nullptr;
  void (*free)(void* p) = nullptr;
  void (*upload)(void* device, const void* host, int64_t bytes) = nullptr;
  void (*download)(void* host, const void* device, int64_t bytes) = nullptr;
  void (*copy)(void* to, const void* from, int64_t bytes) = nullptr;
  void (*zero)(void* device, int64_t bytes) = nullptr;
  // Waits for all that was enqueued; nullptr, or why something failed since the last call.
  const char* (*finish)() = nullptr;
};

// The CPU backend for an instruction set, or nullptr where this machine or build lacks it.
const Backend* cpu_backend(const char* name);
// What an eager op runs on: STATESPACE_BACKEND, else this machine's best instruction set, as its tensors lie in the
// CPU's memory. Throws ERR_DEVICE.
const Backend& default_backend();
// What a model runs on. "cpu": an instruction set, which STATESPACE_BACKEND may name. "cuda": a GPU, or the emulated
// device where STATESPACE_BACKEND says so; throws ERR_DEVICE with the reason where there is none. "auto": what
// STATESPACE_BACKEND names, else a GPU, else the CPU.
const Backend& model_backend(const std::string& device);
// Held while a device works for one caller: it has one stream, and a failure belongs to whoever asks for it. Nothing on
// the CPU.
std::unique_lock<std::recursive_mutex> lock_device(const Backend& backend);
// Names of the usable CPU backends, best first, comma separated; and this machine's best.
const char* const* available_cpu_backends(int* count);

}  // namespace statespace
