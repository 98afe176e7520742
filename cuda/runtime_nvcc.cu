#include <cstdio>

#include "backend/backend.h"
#include "device.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

struct Device {
  cudaStream_t stream = nullptr;
  int multiprocessors = 0;
};
Device device;

}  // namespace

cudaStream_t stream() { return device.stream; }
int multiprocessors() { return device.multiprocessors; }

bool failed(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return false;
  cudaGetLastError();  // otherwise the next call would report it again
  fail_launch(std::string(what) + ": " + cudaGetErrorString(status));
  return true;
}

// One stream for all: uploads, kernels and downloads run in the order of the calls, without waiting in between.
// Allocations come from the driver's pool, which keeps what was freed.
std::string open_device(Backend& table) {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) status = cudaErrorNoDevice;
  cudaDeviceProp properties{};
  cudaMemPool_t pool = nullptr;
  uint64_t keep = UINT64_MAX;
  if (status == cudaSuccess) status = cudaSetDevice(0);
  if (status == cudaSuccess) status = cudaGetDeviceProperties(&properties, 0);
  if (status == cudaSuccess && properties.major * 10 + properties.minor < 75)
    return std::string(properties.name) + " has compute capability " + std::to_string(properties.major) + "." +
           std::to_string(properties.minor) + "; 7.5 or later is needed";
  if (status == cudaSuccess) status = cudaStreamCreateWithFlags(&device.stream, cudaStreamNonBlocking);
  if (status == cudaSuccess) status = cudaDeviceGetDefaultMemPool(&pool, 0);
  if (status == cudaSuccess) status = cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep);
  if (status != cudaSuccess) return cudaGetErrorString(status);
  device.multiprocessors = properties.multiProcessorCount;

  table.name = "cuda";
  std::snprintf(table.device.name, sizeof(table.device.name), "%s", properties.name);
  table.device.capability_major = properties.major, table.device.capability_minor = properties.minor;
  table.device.memory_bytes = int64_t(properties.totalGlobalMem);
  table.alloc = [](int64_t bytes) -> void* {
    void* p = nullptr;
    if (cudaMallocAsync(&p, size_t(bytes > 0 ? bytes : 1), device.stream) == cudaSuccess) return p;
    cudaGetLastError();
    return nullptr;
  };
  table.free = [](void* p) { failed(cudaFreeAsync(p, device.stream), "free"); };
  table.upload = [](void* to, const void* from, int64_t n) {
    failed(cudaMemcpyAsync(to, from, size_t(n), cudaMemcpyHostToDevice, device.stream), "upload");
  };
  table.download = [](void* to, const void* from, int64_t n) {
    failed(cudaMemcpyAsync(to, from, size_t(n), cudaMemcpyDeviceToHost, device.stream), "download");
    wait_for_device();
  };
  table.copy = [](void* to, const void* from, int64_t n) {
    failed(cudaMemcpyAsync(to, from, size_t(n), cudaMemcpyDeviceToDevice, device.stream), "copy");
  };
  table.zero = [](void* p, int64_t n) { failed(cudaMemsetAsync(p, 0, size_t(n), device.stream), "zero"); };
  return "";
}

void wait_for_device() { failed(cudaStreamSynchronize(device.stream), "a kernel"); }

}  // namespace statespace::cuda
