// Rates of the limits' loops, on the calling thread or on all of the pool. They block the caller while they measure.
#include "napi/limits.h"

#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu_tables.h"
#include "core/denormals.h"
#include "core/limits.h"
#include "core/scratch.h"
#include "napi/convert.h"

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

// Of the backend that ops run on.
Limits limits_in_use() {
  const char* name = default_backend().name;
#define STATESPACE_LIMITS(isa) \
  if (!std::strcmp(name, #isa)) return isa::limits();
  STATESPACE_CPU_ISAS(STATESPACE_LIMITS)
#undef STATESPACE_LIMITS
  throw Error(Code::kDevice, std::string("limits of the CPU are asked for, but ops run on ") + name);
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Runs body(piece) for every piece: on this thread, or on the pool.
template <class Fn>
void on_threads(bool all, int64_t pieces, Fn&& body) {
  if (all) {
    ThreadPool::global().parallel_for(pieces, [&](int64_t i, int) { body(i); });
  } else {
    for (int64_t i = 0; i < pieces; ++i) body(i);
  }
}

// Operations a second until a common end: a thread that starts late, or not at all, counts for less.
double compute_rate(double (*loop)(int64_t, float*), bool all, double seconds) {
  constexpr int64_t kSteps = 20000;
  const int threads = all ? ThreadPool::global().threads() : 1;
  std::vector<double> done(threads);
  const auto start = Clock::now();
  on_threads(all, threads, [&](int64_t i) {
    float sink = 0;
    while (seconds_since(start) < seconds) done[i] += loop(kSteps, &sink);
  });
  const double took = seconds_since(start);
  double total = 0;
  for (double d : done) total += d;
  return total / took;
}

class Memory {
 public:
  explicit Memory(int64_t bytes) : count_(bytes / 4), from_(bytes), to_(bytes) {
    each(true, [&](int64_t at, int64_t n) {  // touched by all threads, so that pages exist before anything is timed
      std::memset(from() + at, 0, n * 4);
      std::memset(to() + at, 0, n * 4);
    });
  }
  double read_rate(const Limits& limits, bool all) {
    return rate(all, [&](int64_t at, int64_t n) {
      volatile float sink = limits.read(from() + at, n);
      (void)sink;
    });
  }
  // Bytes copied: each is read once and written once.
  double copy_rate(const Limits& limits, bool all) {
    return rate(all, [&](int64_t at, int64_t n) { limits.copy(to() + at, from() + at, n); });
  }

 private:
  static constexpr int64_t kPiece = 1 << 20;  // floats: 4 MiB, so that pieces end together
  template <class Fn>
  void each(bool all, Fn&& fn) {
    on_threads(all, (count_ + kPiece - 1) / kPiece,
               [&](int64_t i) { fn(i * kPiece, std::min(kPiece, count_ - i * kPiece)); });
  }
  template <class Fn>
  double rate(bool all, Fn&& fn) {
    const auto start = Clock::now();
    each(all, fn);
    return double(count_) * 4 / seconds_since(start);
  }
  float* from() { return static_cast<float*>(from_.data()); }
  float* to() { return static_cast<float*>(to_.data()); }
  int64_t count_;
  Buffer from_, to_;
};

// computeRates(kind, threads, seconds, samples): none where the machine lacks the instruction.
Napi::Value compute_rates(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const std::string kind = info[0].As<Napi::String>();
    const bool all = info[1].As<Napi::String>().Utf8Value() == "all";
    const double seconds = info[2].As<Napi::Number>();
    const uint32_t samples = info[3].As<Napi::Number>();
    const Limits limits = limits_in_use();
    if (kind != "multiplyAdd" && kind != "dotBf16")
      throw Error(Code::kArgument, "computeRates: expected multiplyAdd or dotBf16, got " + kind);
    auto* loop = kind == "multiplyAdd" ? limits.multiply_add : limits.has_dot_bf16() ? limits.dot_bf16 : nullptr;
    const DenormalGuard guard;
    Napi::Array rates = Napi::Array::New(env);
    for (uint32_t i = 0; loop && i < samples; ++i) rates.Set(i, compute_rate(loop, all, seconds));
    return rates;
  });
}

// memoryRates(bytes, samples): {read: {one, all}, copy: {one, all}}, through buffers of that many bytes.
Napi::Value memory_rates(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const double bytes = info[0].As<Napi::Number>();
    const uint32_t samples = info[1].As<Napi::Number>();
    if (!(bytes >= 4 && bytes <= 0x1p53)) throw Error(Code::kArgument, "memoryRates: expected at least 4 bytes");
    const Limits limits = limits_in_use();
    Memory memory(int64_t(bytes) / 4 * 4);
    Napi::Object result = Napi::Object::New(env);
    for (const char* kind : {"read", "copy"}) {
      Napi::Object rates = Napi::Object::New(env);
      for (const char* threads : {"one", "all"}) {
        const bool read = *kind == 'r', all = *threads == 'a';
        Napi::Array taken = Napi::Array::New(env);
        for (uint32_t i = 0; i < samples; ++i)
          taken.Set(i, read ? memory.read_rate(limits, all) : memory.copy_rate(limits, all));
        rates.Set(threads, taken);
      }
      result.Set(kind, rates);
    }
    return result;
  });
}

}  // namespace

void export_limits(Napi::Env env, Napi::Object exports) {
  exports.Set("computeRates", Napi::Function::New(env, compute_rates, "computeRates"));
  exports.Set("memoryRates", Napi::Function::New(env, memory_rates, "memoryRates"));
}

}  // namespace statespace
