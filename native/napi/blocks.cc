// Quantised rows to f32 and back, for readers and writers of files.
#include "napi/blocks.h"

#include "core/blocks.h"
#include "core/denormals.h"
#include "core/quantise.h"
#include "core/thread_pool.h"
#include "napi/long_job.h"

namespace statespace {
namespace {

int64_t read_size(const char* what, const Napi::Value& v) {
  const double n = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : -1;
  if (!(n >= 0 && n <= 0x1p40) || n != double(int64_t(n)))
    throw Error(Code::kArgument, std::string(what) + ": expected a size");
  return int64_t(n);
}

// Memory of a typed array of a JavaScript type; its own pointer, as it may be a shared one.
struct Bytes {
  uint8_t* data = nullptr;
  int64_t bytes = 0;
  Bytes() = default;
  Bytes(const char* what, const Napi::Value& v, napi_typedarray_type type, int width) {
    if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != type)
      throw Error(Code::kArgument, std::string(what) + ": not of the expected typed array");
    size_t length = 0;
    void* memory = nullptr;
    if (napi_get_typedarray_info(v.Env(), v, nullptr, &length, &memory, nullptr, nullptr) != napi_ok)
      throw Error(Code::kArgument, std::string(what) + ": its memory cannot be read");
    data = static_cast<uint8_t*>(memory), bytes = int64_t(length) * width;
  }
};

// (type, from, rows, columns, to, importance | undefined, cancel, onProgress, synchronously): rows of blocks into f32
// or back. The arrays are JavaScript's and must not change until the promise settles.
class BlocksJob : public LongJob {
 public:
  BlocksJob(const Napi::CallbackInfo& info, bool encode)
      : LongJob(info[6], info[7]),
        encode_(encode),
        type_(read_dtype(info[0].ToString().Utf8Value())),
        rows_(read_size("rows", info[2])),
        columns_(read_size("columns", info[3])) {
    const std::string name = dtype_name(type_);
    if (encode ? !is_encoded(type_) : type_ == DType::i32)
      throw Error(Code::kDType, name + (encode ? ": is not written, only read" : ": holds no weights"));
    if (columns_ % dtype_block(type_))
      throw Error(Code::kShape, name + ": expected rows of a multiple of " + std::to_string(dtype_block(type_)) +
                                    " values, received " + std::to_string(columns_));
    int64_t values = 0;
    if (__builtin_mul_overflow(rows_, columns_, &values) || values > INT64_MAX / 8)
      throw Error(Code::kShape, name + ": rows × columns overflows");
    const Bytes from("from", info[1], encode ? napi_float32_array : napi_uint8_array, encode ? 4 : 1);
    const Bytes to("to", info[4], encode ? napi_uint8_array : napi_float32_array, encode ? 1 : 4);
    const int64_t blocks = dtype_bytes(type_, values), floats = values * 4;
    if (from.bytes != (encode ? floats : blocks) || to.bytes != (encode ? blocks : floats))
      throw Error(Code::kShape, name + ": " + std::to_string(rows_) + " × " + std::to_string(columns_) +
                                    " values are " + std::to_string(blocks) + " bytes, received arrays of " +
                                    std::to_string(from.bytes) + " and " + std::to_string(to.bytes) + " bytes");
    if (!info[5].IsUndefined()) {
      const Bytes importance("importance", info[5], napi_float32_array, 4);
      if (importance.bytes != columns_ * 4)
        throw Error(Code::kShape, "importance: expected one value for each of " + std::to_string(columns_) +
                                      " columns, received " + std::to_string(importance.bytes / 4));
      importance_ = reinterpret_cast<const float*>(importance.data);
      hold(info[5]);
    }
    from_ = from.data, to_ = to.data;
    hold(info[1]), hold(info[4]);
  }

  void execute() override {
    if (importance_)
      for (int64_t c = 0; c < columns_; ++c)
        if (!(importance_[c] >= 0 && importance_[c] <= 3e38f))
          throw Error(Code::kArgument, "importance: expected finite values of at least 0, received " +
                                           std::to_string(importance_[c]) + " for column " + std::to_string(c));
    // A round is what threads do between two looks at the flag; a piece is whole blocks of one row.
    constexpr int64_t kPiece = 4096, kRound = 32;
    const int64_t parts = (columns_ + kPiece - 1) / kPiece, pieces = rows_ * parts;
    for (int64_t first = 0; first < pieces; first += kRound) {
      if (stopped()) throw Error(Code::kAborted, "aborted");
      ThreadPool::global().parallel_for(
          std::min(kRound, pieces - first),
          [&](int64_t i, int) {
            const DenormalGuard exact(DenormalGuard::keep);
            const int64_t begin = (first + i) % parts * kPiece, count = std::min(kPiece, columns_ - begin);
            const int64_t at = (first + i) / parts * columns_ + begin;
            if (encode_)
              encode_blocks(type_, reinterpret_cast<const float*>(from_) + at, count,
                            importance_ ? importance_ + begin : nullptr, to_ + dtype_bytes(type_, at));
            else
              decode_blocks(type_, from_ + dtype_bytes(type_, at), count, reinterpret_cast<float*>(to_) + at);
          },
          stop());
      report(std::min(pieces, first + kRound) / std::max<int64_t>(1, parts) * columns_);
    }
  }
  Napi::Value result(Napi::Env env) override { return env.Undefined(); }

 private:
  const bool encode_;
  const DType type_;
  const int64_t rows_, columns_;
  const uint8_t* from_ = nullptr;
  uint8_t* to_ = nullptr;
  const float* importance_ = nullptr;
};

template <bool kEncode>
Napi::Value convert_blocks(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    auto job = std::make_unique<BlocksJob>(info, kEncode);
    if (!info[8].ToBoolean()) return Jobs::of(info.Env()).start(info.Env(), std::move(job));
    job->execute();
    return info.Env().Undefined();
  });
}

// [{name, block, bytes, held, onDevice, encoded}]: lib/dtype.ts has the same table.
Napi::Value describe_types(const Napi::CallbackInfo& info) {
  Napi::Array types = Napi::Array::New(info.Env());
  for (int i = 0; i < kDTypes; ++i) {
    Napi::Object t = Napi::Object::New(info.Env());
    t.Set("name", kDTypeInfo[i].name);
    t.Set("block", kDTypeInfo[i].block);
    t.Set("bytes", kDTypeInfo[i].bytes);
    t.Set("held", is_held(DType(i)));
    t.Set("onDevice", is_held_on_device(DType(i)));
    t.Set("encoded", is_encoded(DType(i)));
    t.Set("withinQ4_0", is_within_q4_0(DType(i)));
    types.Set(uint32_t(i), t);
  }
  return types;
}

}  // namespace

void export_blocks(Napi::Env env, Napi::Object exports) {
  const auto set = [&](const char* name, auto fn) { exports.Set(name, Napi::Function::New(env, fn, name)); };
  set("decodeBlocks", convert_blocks<false>);
  set("encodeBlocks", convert_blocks<true>);
  set("describeTypes", describe_types);
}

}  // namespace statespace
