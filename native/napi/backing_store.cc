#include "napi/backing_store.h"

#include <algorithm>
#include <utility>

#if defined(__linux__) && defined(__GLIBCXX__)
#define STATESPACE_KNOWS_V8 1

// The little of v8.h that is needed, as it has been since Node 14. Weak: absent in a runtime that is not V8.
#define STATESPACE_WEAK __attribute__((weak, visibility("default")))
namespace v8 {
class Isolate {
 public:
  STATESPACE_WEAK static Isolate* GetCurrent();
};
class BackingStore {
 public:
  STATESPACE_WEAK ~BackingStore();
  static void operator delete(void* p) { ::operator delete(p); }
};
template <class T>
class Local {
 public:
  T* slot;
};
enum class BackingStoreInitializationMode { kZeroInitialized, kUninitialized };
enum class BackingStoreOnFailureMode { kReturnNull, kOutOfMemory };
class ArrayBuffer {
 public:
  // The first one until Node 22, the second since 24.
  STATESPACE_WEAK static std::unique_ptr<BackingStore> NewBackingStore(Isolate* isolate, size_t bytes);
  STATESPACE_WEAK static std::unique_ptr<BackingStore> NewBackingStore(Isolate* isolate, size_t bytes,
                                                                       BackingStoreInitializationMode content,
                                                                       BackingStoreOnFailureMode failure);
  STATESPACE_WEAK static std::unique_ptr<BackingStore> NewBackingStore(void* data, size_t bytes,
                                                                       void (*deleter)(void*, size_t, void*),
                                                                       void* deleter_data);
  STATESPACE_WEAK static Local<ArrayBuffer> New(Isolate* isolate, std::shared_ptr<BackingStore> store);
  STATESPACE_WEAK std::shared_ptr<BackingStore> GetBackingStore();
};
}  // namespace v8
#endif

namespace statespace {

#ifdef STATESPACE_KNOWS_V8
namespace {

// What the end of a buffer needs to know.
struct Given {
  int64_t size;
  std::shared_ptr<WaitingBlocks> waiting;
};

void give_back(void* data, size_t, void* given) {
  const std::unique_ptr<Given> block(static_cast<Given*>(given));
  Recycled::give(data, block->size);
  block->waiting->add(block->size);
}

// V8 marks the whole heap when its count has risen by 64 MB since it did so last.
constexpr int64_t kMostRise = 60 << 20;

int64_t adjust(Napi::Env env, int64_t by) {
  int64_t total = 0;
  napi_adjust_external_memory(env, by, &total);
  return total;
}

bool has_symbols() {
  using NewStore = std::unique_ptr<v8::BackingStore> (*)(void*, size_t, void (*)(void*, size_t, void*), void*);
  using New = v8::Local<v8::ArrayBuffer> (*)(v8::Isolate*, std::shared_ptr<v8::BackingStore>);
  volatile NewStore new_store = &v8::ArrayBuffer::NewBackingStore;
  volatile New make = &v8::ArrayBuffer::New;
  v8::Isolate* (*volatile current)() = &v8::Isolate::GetCurrent;
  std::shared_ptr<v8::BackingStore> (v8::ArrayBuffer::*volatile get)() = &v8::ArrayBuffer::GetBackingStore;
  return new_store && make && current && get;
}

}  // namespace

bool knows_backing_stores(Napi::Env env) {
  static const bool symbols = has_symbols();
  if (!symbols) return false;
  const auto versions = env.Global().Get("process").ToObject().Get("versions").ToObject();
  for (const char* other : {"electron", "bun", "deno"})
    if (versions.Has(other)) return false;
  const std::string abi = versions.Get("modules").ToString();
  return abi == "115" || abi == "127" || abi == "137";
}

// It does so with every new buffer.
void have_counted(Napi::Env env) {
  const Napi::HandleScope scope(env);
  static char byte;
  v8::ArrayBuffer::New(v8::Isolate::GetCurrent(), v8::ArrayBuffer::NewBackingStore(
                                                      &byte, 1, [](void*, size_t, void*) {}, nullptr));
}

void WaitingBlocks::tell(Napi::Env env) {
  const int64_t came = came_.load(std::memory_order_relaxed);
  if (told_ == 0 && came == 0) return;
  const int64_t kept = Recycled::kept();
  if (told_ > kept) adjust(env, kept - std::exchange(told_, kept));
  if (came > 0) {
    // Told before V8 counts them out, as it remembers the lowest count; not where it has not got to it.
    const int64_t rise = std::min(came, kept - told_), first = std::min(rise, kMostRise);
    bool counted = adjust(env, 0) < counted_;
    const int64_t with = adjust(env, first);
    if (!counted) {
      have_counted(env);
      counted = adjust(env, 0) < with;
    }
    if (counted) {
      adjust(env, rise - first);
      told_ += rise;
      came_.fetch_sub(came, std::memory_order_relaxed);
    } else {
      adjust(env, -first);
    }
  }
  counted_ = adjust(env, 0);
}

Napi::ArrayBuffer array_buffer_over(Napi::Env env, FloatBlock block, int64_t bytes,
                                    std::shared_ptr<WaitingBlocks> waiting) {
  auto given = std::make_unique<Given>(Given{block.size(), waiting});
  std::shared_ptr<v8::BackingStore> store =
      v8::ArrayBuffer::NewBackingStore(block.data(), size_t(bytes), give_back, given.get());
  block.release();
  given.release();
  waiting->tell(env);
  const auto local = v8::ArrayBuffer::New(v8::Isolate::GetCurrent(), std::move(store));
  waiting->tell(env);
  return Napi::ArrayBuffer(env, reinterpret_cast<napi_value>(local.slot));
}

void collect_young() {
  using Old = std::unique_ptr<v8::BackingStore> (*)(v8::Isolate*, size_t);
  using New = std::unique_ptr<v8::BackingStore> (*)(v8::Isolate*, size_t, v8::BackingStoreInitializationMode,
                                                    v8::BackingStoreOnFailureMode);
  volatile Old old_one = &v8::ArrayBuffer::NewBackingStore;
  volatile New new_one = &v8::ArrayBuffer::NewBackingStore;
  v8::Isolate* const isolate = v8::Isolate::GetCurrent();
  if (old_one)
    old_one(isolate, 1);
  else if (new_one)
    new_one(isolate, 1, v8::BackingStoreInitializationMode::kZeroInitialized,
            v8::BackingStoreOnFailureMode::kReturnNull);
}

std::shared_ptr<void> share_memory(const Napi::TypedArray& array) {
  napi_value buffer;
  bool ordinary = false;
  if (napi_get_typedarray_info(array.Env(), array, nullptr, nullptr, nullptr, &buffer, nullptr) != napi_ok ||
      napi_is_arraybuffer(array.Env(), buffer, &ordinary) != napi_ok || !ordinary)
    return nullptr;
  return reinterpret_cast<v8::ArrayBuffer*>(buffer)->GetBackingStore();
}
#else
void WaitingBlocks::tell(Napi::Env) {}
bool knows_backing_stores(Napi::Env) { return false; }
Napi::ArrayBuffer array_buffer_over(Napi::Env, FloatBlock, int64_t, std::shared_ptr<WaitingBlocks>) { return {}; }
void collect_young() {}
void have_counted(Napi::Env) {}
std::shared_ptr<void> share_memory(const Napi::TypedArray&) { return nullptr; }
#endif

}  // namespace statespace
