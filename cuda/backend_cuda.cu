// The CUDA backend's op table, and the one function that this library exports.
#include <mutex>

#include "backend/backend.h"
#include "device.h"
#include "missing.h"
#include "runtime.h"

#if defined(_WIN32)
#define STATESPACE_EXPORT extern "C" __declspec(dllexport)
#else
#define STATESPACE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

namespace statespace::cuda {
namespace {

template <class Op, class... Ops>
constexpr bool contains(OpList<Ops...>) {
  return (std::is_same_v<Op, Ops> || ...);
}

std::mutex failure_mutex;
std::string failure;
thread_local const char* running = nullptr;

// Nothing is thrown across the library's border: a failure waits for finish().
template <class Op>
void invoke(const void* op, Context&) {
  running = Op::kName;
  if constexpr (contains<Op>(Missing{})) {
    fail_launch("has no CUDA kernel yet");
  } else {
    try {
      run(*static_cast<const Op*>(op));
    } catch (const std::string& why) {
      fail_launch(why);
    } catch (const std::exception& e) {
      fail_launch(e.what());
    }
  }
  running = nullptr;
}

template <class... Ops>
void fill(Backend& table, OpList<Ops...>) {
  Backend::Run runs[] = {invoke<Ops>...};
  for (int i = 0; i < kOpCount; ++i) table.run[i] = runs[i];
}

const char* finish() {
  wait_for_device();
  static thread_local std::string reported;
  std::lock_guard lock(failure_mutex);
  reported.clear();
  reported.swap(failure);
  return reported.empty() ? nullptr : reported.c_str();
}

// Weights keep their rows: tiles are rearranged on their way into shared memory.
Tensor packed(const Tensor& weight, int64_t* bytes) {
  *bytes = weight.bytes();
  return weight;
}

struct Opened {
  Backend table;
  std::string reason;
  Opened() : reason(open_device(table)) {
    fill(table, AllOps{});
    table.host_memory = false;
    table.packed = packed;
    table.pack = [](const Tensor& from, const Tensor& to, Context&) {
      if (from.data != to.data) fail_launch("weights are not rearranged");
    };
    table.finish = finish;
  }
};

}  // namespace

void fail_launch(const std::string& why) {
  std::lock_guard lock(failure_mutex);
  if (failure.empty()) failure = "statespace_cuda: " + (running ? std::string(running) + ": " : "") + why;
}

}  // namespace statespace::cuda

// The backend, or nullptr and why there is none.
STATESPACE_EXPORT const statespace::Backend* statespace_backend(const char** reason) {
  static const statespace::cuda::Opened opened;
  *reason = opened.reason.c_str();
  return opened.reason.empty() ? &opened.table : nullptr;
}
