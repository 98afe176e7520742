#pragma once
// What the C++ tests share: tensors over vectors, deterministic random values, every usable backend.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/check.h"

namespace statespace::test {

inline Tensor view(std::vector<float>& data, std::initializer_list<int64_t> shape) {
  static float none;  // an empty tensor is given, not missing
  Tensor t;
  t.data = data.empty() ? &none : data.data();
  for (int64_t n : shape) t.shape[t.rank++] = n;
  t.row_stride = t.row_size();
  return t;
}

inline Tensor view(std::vector<int32_t>& data) {
  Tensor t;
  t.data = data.data();
  t.rank = 1;
  t.shape[0] = static_cast<int64_t>(data.size());
  t.row_stride = 1;
  t.dtype = DType::i32;
  return t;
}

// Uniform in [low, high), the same sequence for the same seed.
inline std::vector<float> uniform(size_t n, uint64_t seed, float low = -1, float high = 1) {
  std::vector<float> v(n);
  uint64_t s = seed * 0x9e3779b97f4a7c15ull + 1;
  for (auto& x : v) {
    s ^= s << 13, s ^= s >> 7, s ^= s << 17;
    x = low + (high - low) * float(s >> 40) * 0x1p-24f;
  }
  return v;
}

// Thrown by run() where the device has no kernel for the op; each_backend() reports and passes over it.
struct NoKernel {
  std::string why;
};

// An op on copies of its tensors in a device's memory. Tensors that share memory (views of one row, an output in place
// of an input) share it there too.
template <class Op>
struct OnDevice {
  OnDevice(const Backend& backend, const Op& on_host) : op(on_host), backend(backend) {
    each_tensor(op, [&](FieldKind, const char*, Tensor& t, const char*, const char*) {
      if (t) add(static_cast<char*>(t.data), extent(t));
    });
    for (auto& b : blocks) {
      b.device = static_cast<char*>(backend.alloc(b.end - b.begin));
      REQUIRE(b.device != nullptr);
      backend.upload(b.device, b.begin, b.end - b.begin);
    }
    each_tensor(op, [&](FieldKind, const char*, Tensor& t, const char*, const char*) {
      for (auto& b : blocks)
        if (t && t.data >= b.begin && static_cast<char*>(t.data) + extent(t) <= b.end) {
          t.data = b.device + (static_cast<char*>(t.data) - b.begin);
          return;
        }
    });
  }
  OnDevice(const OnDevice&) = delete;
  ~OnDevice() {
    for (auto& b : blocks) backend.free(b.device);
  }
  void run(Context& cx) {
    backend.run[op_id<Op>()](&op, cx);
    const char* failure = backend.finish();
    if (failure && std::string(failure).find("has no CUDA kernel yet") != std::string::npos) throw NoKernel{failure};
    CHECK_MESSAGE(failure == nullptr, std::string(failure ? failure : ""));
  }
  // All memory of the op as it is now.
  std::vector<std::vector<char>> bytes() const {
    std::vector<std::vector<char>> all;
    for (auto& b : blocks) {
      all.emplace_back(b.end - b.begin);
      backend.download(all.back().data(), b.device, b.end - b.begin);
    }
    return all;
  }
  void write_back() const {
    for (auto& b : blocks) backend.download(b.begin, b.device, b.end - b.begin);
  }
  Op op;

 private:
  struct Block {
    char *begin, *end, *device;
  };
  static int64_t extent(const Tensor& t) {
    return t.rank && t[0] == 0 ? 0 : dtype_bytes(t.dtype, t.rank ? (t[0] - 1) * t.row_stride + t.row_size() : 1);
  }
  void add(char* begin, int64_t bytes) {
    Block merged{begin, begin + bytes, nullptr};
    std::erase_if(blocks, [&](const Block& b) {
      if (b.begin >= merged.end || merged.begin >= b.end) return false;
      merged = {std::min(b.begin, merged.begin), std::max(b.end, merged.end), nullptr};
      return true;
    });
    blocks.push_back(merged);
  }
  const Backend& backend;
  std::vector<Block> blocks;
};

// On the emulated device in several orders of its lanes, which must agree to the bit.
template <class Op>
void run_on_device(const Backend& backend, const Op& op, Context& cx) {
  OnDevice<Op> first(backend, op);
  if (std::string(backend.name) == "cuda-emulated" && !std::getenv("STATESPACE_EMULATED_ORDER")) {
    for (const char* order : {"reverse", "20240229"}) {
      OnDevice<Op> other(backend, op);
      setenv("STATESPACE_EMULATED_ORDER", order, 1);
      other.run(cx);
      unsetenv("STATESPACE_EMULATED_ORDER");
      if (order[0] == 'r') first.run(cx);
      const bool same_bits = first.bytes() == other.bytes();
      CAPTURE(order);
      CHECK(same_bits);
    }
  } else {
    first.run(cx);
  }
  first.write_back();
}

template <class Op>
void run(const Backend& backend, Op& op, ThreadPool& pool = ThreadPool::global()) {
  check(op);
  Scratch scratch;
  Context cx{pool, scratch};
  if (backend.host_memory) return backend.run[op_id<Op>()](&op, cx);
  run_on_device(backend, op, cx);
}

// Calls fn(backend) for every CPU backend of this machine, or for the one that STATESPACE_BACKEND names (a device);
// failures name it.
template <class Fn>
void each_backend(Fn&& fn) {
  if (std::getenv("STATESPACE_BACKEND")) {
    try {
      fn(default_backend());
    } catch (const NoKernel& missing) {
      MESSAGE("skipped: ", missing.why);
    }
    return;
  }
  int count;
  const char* const* names = available_cpu_backends(&count);
  for (int i = 0; i < count; ++i) {
    const std::string backend = names[i];
    CAPTURE(backend);
    fn(*cpu_backend(names[i]));
  }
}

// And the program of a matrix unit, in memory, unless one backend was asked for: for ops over bf16.
template <class Fn>
void each_backend_and_tiles(Fn&& fn) {
  each_backend(fn);
  const std::string backend = "amx-emulated";
  CAPTURE(backend);
  if (const Backend* tiles = std::getenv("STATESPACE_BACKEND") ? nullptr : cpu_backend(backend.c_str())) fn(*tiles);
}

inline double max_error(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double e = std::fabs(double(a[i]) - b[i]);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}

// |a - b| / |b| in the Euclidean norm; infinite where a has a NaN.
inline double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    size += double(b[i]) * b[i];
  }
  if (std::isnan(difference)) return INFINITY;
  return difference == 0 ? 0 : std::sqrt(difference / size);
}

}  // namespace statespace::test
