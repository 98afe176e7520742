#include "napi/system.h"

#include <fstream>

#include "backend/backend.h"
#include "backend/cuda_loader.h"
#include "napi/convert.h"

namespace statespace {
namespace {

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    Napi::Object out = Napi::Object::New(env);
    int count;
    const char* const* names = available_cpu_backends(&count);
    Napi::Array available = Napi::Array::New(env, count);
    for (int i = 0; i < count; ++i) available.Set(i, names[i]);
    out.Set("model", cpu_model());
    out.Set("cores", physical_cores());
    out.Set("isa", model_backend("cpu").name);
    out.Set("available", available);
    return Napi::Value(out);
  });
}

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    Napi::Object out = Napi::Object::New(env);
    Napi::Array devices = Napi::Array::New(env);
    std::string reason;
    const Backend* cuda = cuda_backend(&reason);
    out.Set("available", cuda != nullptr);
    if (cuda) {
      Napi::Object device = Napi::Object::New(env);
      device.Set("name", cuda->device.name);
      device.Set("computeCapability",
                 std::to_string(cuda->device.capability_major) + "." + std::to_string(cuda->device.capability_minor));
      device.Set("memoryBytes", double(cuda->device.memory_bytes));
      devices.Set(0u, device);
    } else {
      out.Set("reason", reason);
    }
    out.Set("devices", devices);
    return Napi::Value(out);
  });
}

// (device?) What a model runs on, or eager ops without it.
Napi::Value backend_name(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] {
    const Backend& b = info[0].IsUndefined() ? default_backend() : model_backend(info[0].ToString().Utf8Value());
    return Napi::Value(Napi::String::New(info.Env(), b.name));
  });
}

void set_library(const Napi::CallbackInfo& info) { set_cuda_library(info[0].ToString().Utf8Value()); }

// How many, and why not as many as were asked for.
Napi::Value threads(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&] {
    const ThreadPool& pool = ThreadPool::global();
    Napi::Object out = Napi::Object::New(env);
    out.Set("count", pool.threads());
    const std::string shortage = pool.shortage();
    if (!shortage.empty()) out.Set("shortage", shortage);
    return Napi::Value(out);
  });
}

void set_threads(const Napi::CallbackInfo& info) {
  guarded(info.Env(), [&] { ThreadPool::global().resize(info[0].As<Napi::Number>().Int32Value()); });
}

}  // namespace

void export_system(Napi::Env env, Napi::Object exports) {
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info, "cpuInfo"));
  exports.Set("cudaInfo", Napi::Function::New(env, cuda_info, "cudaInfo"));
  exports.Set("backendName", Napi::Function::New(env, backend_name, "backendName"));
  exports.Set("setCudaLibrary", Napi::Function::New(env, set_library, "setCudaLibrary"));
  exports.Set("threads", Napi::Function::New(env, threads, "threads"));
  exports.Set("setThreads", Napi::Function::New(env, set_threads, "setThreads"));
}

}  // namespace statespace
