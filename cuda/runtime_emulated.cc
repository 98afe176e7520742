#include <cstring>

#include "backend/backend.h"
#include "device.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

// A copy to or from memory that no allocation holds is an error here, where a GPU may overwrite a neighbour.
bool valid(const void* device, int64_t bytes) {
  if (bytes == 0 || emulated::is_device_memory(device, bytes)) return bytes > 0;
  fail_launch("a copy of " + std::to_string(bytes) + " bytes outside device memory");
  return false;
}

}  // namespace

std::string open_device(Backend& table) {
  table.name = "cuda-emulated";
  std::strcpy(table.device.name, "emulated device");
  table.alloc = emulated::allocate;
  table.free = [](void* p) {
    if (p && !emulated::release(p)) fail_launch("free of what was not allocated");
  };
  table.upload = [](void* device, const void* host, int64_t n) {
    if (valid(device, n)) std::memcpy(device, host, size_t(n));
  };
  table.download = [](void* host, const void* device, int64_t n) {
    if (valid(device, n)) std::memcpy(host, device, size_t(n));
  };
  table.copy = [](void* to, const void* from, int64_t n) {
    if (valid(to, n) && valid(from, n)) std::memmove(to, from, size_t(n));
  };
  table.zero = [](void* device, int64_t n) {
    if (valid(device, n)) std::memset(device, 0, size_t(n));
  };
  return "";
}

void wait_for_device() {}

}  // namespace statespace::cuda
