#include "napi/memory.h"

#include <algorithm>

#include "napi/convert.h"

namespace statespace {
namespace {

constexpr int64_t kFew = 16 << 10;  // floats

// The block as an ArrayBuffer of `bytes`; false where the runtime takes none.
bool hand_over(Napi::Env env, FloatBlock& block, int64_t bytes, napi_value* buffer) {
  const auto give_back = [](napi_env, void* data, void* size) {
    Recycled::give(data, int64_t(reinterpret_cast<intptr_t>(size)));
  };
  void* size = reinterpret_cast<void*>(intptr_t(block.size()));
  if (napi_create_external_arraybuffer(env, block.data(), size_t(bytes), give_back, size, buffer) != napi_ok)
    return false;
  block.release();
  return true;
}

// (bytes) An ArrayBuffer with whatever was in its memory, or undefined where this runtime takes no memory of others.
Napi::Value output_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int64_t bytes = info[0].As<Napi::Number>().Int64Value();
    if (bytes <= 0) throw Error(Code::kArgument, "outputMemory: expected a positive number of bytes");
    FloatBlock block((bytes + 3) / 4);
    napi_value buffer;
    if (!hand_over(env, block, bytes, &buffer)) return env.Undefined();
    return Napi::Value(env, buffer);
  });
}

}  // namespace

Napi::Value to_js(Napi::Env env, FloatBlock block) {
  const int64_t count = block.count();
  napi_value buffer;
  if (count >= kFew && hand_over(env, block, 4 * count, &buffer))
    return Napi::Float32Array::New(env, size_t(count), Napi::ArrayBuffer(env, buffer), 0);
  auto out = Napi::Float32Array::New(env, size_t(count));
  std::copy(block.data(), block.data() + count, out.Data());
  return out;
}

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("outputMemory", Napi::Function::New(env, output_memory, "outputMemory"));
}

}  // namespace statespace
