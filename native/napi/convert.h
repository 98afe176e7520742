#pragma once
// Between JavaScript values and the core's types. Reading throws Error; nothing here keeps a reference.
#include <napi.h>

#include <string>

#include "core/error.h"
#include "core/tensor.h"

namespace statespace {

Napi::Error to_js(Napi::Env env, const Error& e);

// Runs fn, turning the core's Error into a JavaScript exception with its code.
template <class Fn>
auto guarded(Napi::Env env, Fn&& fn) {
  try {
    return fn();
  } catch (const Error& e) {
    throw to_js(env, e);
  } catch (const std::bad_alloc&) {
    throw to_js(env, Error(Code::kOutOfMemory, "out of memory"));
  }
}

DType read_dtype(const std::string& name);
// {data: TypedArray, shape: number[], dtype: string}: the data must hold at least shape × dtype bytes.
Tensor read_tensor(const std::string& what, const Napi::Value& value);
std::string read_string(const Napi::Object& object, const char* key);

}  // namespace statespace
