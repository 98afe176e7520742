#include "napi/memory.h"

#include <algorithm>

#include "napi/backing_store.h"
#include "napi/convert.h"
#include "napi/jobs.h"

namespace statespace {
namespace {

// Smaller results that are at hand are copied into the runtime's own memory, larger ones than kMost are beyond what a
// buffer can hold in every version of V8; both cost little beside what made them.
constexpr int64_t kLeast = 64 << 10, kMost = int64_t(1) << 32;  // bytes

bool ours(Napi::Env env, int64_t bytes) { return bytes < kMost && Jobs::of(env).knows_backing_stores; }

// Whether V8 has collected its young objects since this was last asked: one that nobody holds is gone.
bool has_collected(Napi::Env env) {
  const Napi::HandleScope scope(env);
  Napi::ObjectReference& unheld = Jobs::of(env).unheld;
  if (!unheld.IsEmpty() && !unheld.Value().IsEmpty()) return false;
  unheld = Napi::Weak(Napi::Object::New(env));
  unheld.SuppressDestruct();
  return true;
}

// (bytes, zeros) An ArrayBuffer with whatever was in its memory, or of zeros; undefined where the runtime had better
// make it. Of zeros, memory that was never used is not touched.
Napi::Value output_memory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const int64_t bytes = info[0].As<Napi::Number>().Int64Value();
    if (bytes <= 0) throw Error(Code::kArgument, "outputMemory: expected a positive number of bytes");
    if (!ours(env, bytes)) return env.Undefined();
    if (has_collected(env)) Recycled::await(Recycled::rounded(bytes));
    const int64_t floats = (bytes + 3) / 4;
    return array_buffer_over(env, info[1].ToBoolean() ? FloatBlock::of_zeros(floats) : FloatBlock(floats), bytes,
                             Jobs::of(env).waiting);
  });
}

// Nothing: whether V8 has young buffers to collect is asked here.
void collect_dropped(const Napi::CallbackInfo& info) {
  Jobs& jobs = Jobs::of(info.Env());
  if (!jobs.knows_backing_stores) return;
  jobs.waiting->tell(info.Env());
  collect_young();
  jobs.waiting->tell(info.Env());
  if (jobs.waiting->none()) have_counted(info.Env());
}

// (buffer) Gives its memory back at once, unless a running job holds it still; its views become empty.
void detach(const Napi::CallbackInfo& info) {
  if (info[0].IsArrayBuffer()) napi_detach_arraybuffer(info.Env(), info[0]);
}

}  // namespace

Napi::Value to_js(Napi::Env env, FloatBlock block) {
  const int64_t count = block.count();
  if (4 * count >= kLeast && ours(env, 4 * count))
    return Napi::Float32Array::New(env, size_t(count),
                                   array_buffer_over(env, std::move(block), 4 * count, Jobs::of(env).waiting), 0);
  // Asked for here, as node-addon-api would end the process where the runtime refuses the size.
  napi_value buffer, array;
  void* data;
  if (napi_create_arraybuffer(env, size_t(4 * count), &data, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_float32_array, size_t(count), buffer, 0, &array) != napi_ok) {
    napi_value ignored;
    napi_get_and_clear_last_exception(env, &ignored);
    throw Error(Code::kOutOfMemory, "this runtime holds no array of " + std::to_string(count) + " values");
  }
  std::copy(block.data(), block.data() + count, static_cast<float*>(data));
  return Napi::Value(env, array);
}

void export_memory(Napi::Env env, Napi::Object exports) {
  exports.Set("outputMemory", Napi::Function::New(env, output_memory, "outputMemory"));
  exports.Set("collectDropped", Napi::Function::New(env, collect_dropped, "collectDropped"));
  exports.Set("detach", Napi::Function::New(env, detach, "detach"));
}

}  // namespace statespace
