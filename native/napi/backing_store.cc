#include "napi/backing_store.h"

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
class ArrayBuffer {
 public:
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

Napi::ArrayBuffer array_buffer_over(Napi::Env env, FloatBlock block, int64_t bytes) {
  void* size = reinterpret_cast<void*>(intptr_t(block.size()));
  std::shared_ptr<v8::BackingStore> store = v8::ArrayBuffer::NewBackingStore(
      block.data(), size_t(bytes),
      [](void* data, size_t, void* size) { Recycled::give(data, int64_t(reinterpret_cast<intptr_t>(size))); }, size);
  block.release();
  const auto local = v8::ArrayBuffer::New(v8::Isolate::GetCurrent(), std::move(store));
  return Napi::ArrayBuffer(env, reinterpret_cast<napi_value>(local.slot));
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
bool knows_backing_stores(Napi::Env) { return false; }
Napi::ArrayBuffer array_buffer_over(Napi::Env, FloatBlock, int64_t) { return {}; }
std::shared_ptr<void> share_memory(const Napi::TypedArray&) { return nullptr; }
#endif

}  // namespace statespace
