#include "napi/convert.h"

namespace statespace {

Napi::Error to_js(Napi::Env env, const Error& e) {
  Napi::Error error = Napi::Error::New(env, e.what());
  error.Set("code", Napi::String::New(env, code_name(e.code)));
  return error;
}

DType read_dtype(const std::string& name) {
  for (int i = 0; i < kDTypes; ++i)
    if (name == dtype_name(static_cast<DType>(i))) return static_cast<DType>(i);
  throw Error(Code::kDType, "unknown dtype '" + name + "'; expected f32, f16, bf16, i32 or a quantised type");
}

std::string read_string(const Napi::Object& object, const char* key) {
  const Napi::Value v = object.Get(key);
  if (!v.IsString()) throw Error(Code::kArgument, std::string(key) + ": expected a string");
  return v.As<Napi::String>().Utf8Value();
}

Tensor read_tensor(const std::string& what, const Napi::Value& value) {
  if (!value.IsObject()) throw Error(Code::kArgument, what + ": expected {data, shape, dtype}");
  const Napi::Object object = value.As<Napi::Object>();
  const Napi::Value data = object.Get("data"), shape = object.Get("shape");
  if (!data.IsTypedArray() || !shape.IsArray()) throw Error(Code::kArgument, what + ": expected {data, shape, dtype}");

  Tensor t;
  t.dtype = read_dtype(read_string(object, "dtype"));
  const Napi::Array axes = shape.As<Napi::Array>();
  if (axes.Length() > kMaxRank)
    throw Error(Code::kShape, what + ": rank " + std::to_string(axes.Length()) + " exceeds 5");
  int64_t count = 1;
  for (uint32_t i = 0; i < axes.Length(); ++i) {
    const Napi::Value axis = axes.Get(i);
    const double n = axis.IsNumber() ? axis.As<Napi::Number>().DoubleValue() : -1;
    if (!(n >= 0 && n <= 9007199254740991.0) || n != double(int64_t(n)))
      throw Error(Code::kShape, what + ": shape[" + std::to_string(i) + "] is not a size");
    t.shape[t.rank++] = int64_t(n);
    if (__builtin_mul_overflow(count, int64_t(n), &count)) throw Error(Code::kShape, what + ": shape overflows");
  }
  t.row_stride = t.row_size();

  const Napi::TypedArray array = data.As<Napi::TypedArray>();
  if (array.ArrayBuffer().IsDetached()) throw Error(Code::kArgument, what + ": its buffer is detached");
  if (count > INT64_MAX / 4 || dtype_bytes(t.dtype, count) > int64_t(array.ByteLength()))
    throw Error(Code::kShape, what + ": shape needs " + std::to_string(dtype_bytes(t.dtype, count)) +
                                  " bytes, data has " + std::to_string(array.ByteLength()));
  static float empty[16];
  // The array's own pointer: asking its buffer for one fails for a SharedArrayBuffer.
  if (napi_get_typedarray_info(value.Env(), array, nullptr, nullptr, &t.data, nullptr, nullptr) != napi_ok)
    throw Error(Code::kArgument, what + ": its memory cannot be read");
  if (array.ByteLength() == 0) t.data = empty;
  return t;
}

}  // namespace statespace
