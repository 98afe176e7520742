#include "napi/memory.h"

#include <map>
#include <mutex>
#include <vector>

#include "core/memory_map.h"
#include "core/scratch.h"
#include "napi/convert.h"

namespace statespace {
namespace {

// Blocks that the collector has given back, for the next output of the same size. Fresh memory is paid for page by page
// when it is first written: a scan of 2048 tokens by 1536 channels took 5 ms, its caller waited 35.
class Blocks {
 public:
  static constexpr int64_t kGranule = 2 << 20, kKept = 128 << 20;

  static Blocks& get() {
    static Blocks* blocks = new Blocks;  // never destroyed: finalizers may run until the process ends
    return *blocks;
  }
  static int64_t rounded(int64_t bytes) { return (bytes + kGranule - 1) / kGranule * kGranule; }

  void* take(int64_t size) {
    {
      const std::lock_guard lock(mutex_);
      auto& list = free_[size];
      if (!list.empty()) {
        void* p = list.back();
        list.pop_back();
        kept_ -= size;
        return p;
      }
    }
    return aligned_alloc_bytes(size);
  }
  void give(void* p, int64_t size) {
    {
      const std::lock_guard lock(mutex_);
      if (kept_ + size <= kKept) {
        kept_ += size;
        return free_[size].push_back(p);
      }
    }
    aligned_free(p);
  }

 private:
  std::mutex mutex_;
  std::map<int64_t, std::vector<void*>> free_;
  int64_t kept_ = 0;
};

// (bytes) An ArrayBuffer with whatever was in its memory, or undefined where this runtime takes no memory of others.
Napi::Value output_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int64_t bytes = info[0].As<Napi::Number>().Int64Value();
    if (bytes <= 0) throw Error(Code::kArgument, "outputMemory: expected a positive number of bytes");
    const int64_t size = Blocks::rounded(bytes);
    void* p = Blocks::get().take(size);
    napi_value buffer;
    const napi_status status = napi_create_external_arraybuffer(
        env, p, size_t(bytes),
        [](napi_env, void* data, void* hint) { Blocks::get().give(data, int64_t(reinterpret_cast<intptr_t>(hint))); },
        reinterpret_cast<void*>(intptr_t(size)), &buffer);
    if (status == napi_ok) return Napi::Value(env, buffer);
    Blocks::get().give(p, size);
    return env.Undefined();
  });
}

}  // namespace

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("outputMemory", Napi::Function::New(env, output_memory, "outputMemory"));
}

}  // namespace statespace
