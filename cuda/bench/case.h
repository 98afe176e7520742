#pragma once
// What a kernel is measured on, and what it must move and compute there: the roofline is derived from the op's own
// fields. A tensor here has a shape and says what to fill it with; memory comes when it is run.
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "core/check.h"

namespace statespace::bench {

struct Fill {
  float low = -1, high = 1;
  std::vector<int32_t> integers;  // of an i32 tensor
};

// Makes an op's tensors. Their data is the number of a Fill until they are run.
class Tensors {
 public:
  Tensor values(std::initializer_list<int64_t> shape, float low = -1, float high = 1, DType dtype = DType::f32) {
    return add(shape, dtype, {low, high, {}});
  }
  Tensor integers(std::vector<int32_t> list) {
    const int64_t n = int64_t(list.size());
    return add({n}, DType::i32, {0, 0, std::move(list)});
  }
  // 0, length, 2·length …: equal sequences.
  Tensor bounds(int64_t sequences, int64_t length) {
    std::vector<int32_t> b;
    for (int64_t s = 0; s <= sequences; ++s) b.push_back(int32_t(s * length));
    return integers(b);
  }
  const Fill& fill(const Tensor& t) const { return fills_[size_t(t.data) - 1]; }

 private:
  Tensor add(std::initializer_list<int64_t> shape, DType dtype, Fill fill) {
    fills_.push_back(std::move(fill));
    Tensor t;
    t.data = reinterpret_cast<void*>(fills_.size());
    for (int64_t n : shape) t.shape[t.rank++] = n;
    t.row_stride = t.row_size(), t.dtype = dtype;
    return t;
  }
  std::vector<Fill> fills_;
};

struct Case {
  std::string op, shape;
  int64_t tokens = 0;
  double bytes = 0, operations = 0;  // of one call
  bool tensor_cores = false;         // by which its products go
  std::string loses;                 // where the design falls short of the roofline
  std::shared_ptr<void> data;
  // Seconds of one call on a backend, and how many were made. Throws std::runtime_error.
  std::function<double(const Backend&, int* calls)> measure;
};

double measure_calls(const Backend& backend, const std::function<void()>& call, int* calls);
void* place(const Backend& backend, const Tensor& t, const Fill& fill);

// Every tensor is read or written once, a state both; fill_in may correct `bytes` where a kernel touches less.
template <class Op, class Make>
Case make_case(std::string shape, int64_t tokens, double operations, std::string loses, Make make) {
  struct Made {
    Op op;
    Tensors tensors;
  };
  auto made = std::make_shared<Made>();
  Case c{Op::kName, std::move(shape), tokens, 0, operations, false, std::move(loses), made, {}};
  make(made->op, made->tensors);
  check(made->op);
  each_tensor(made->op, [&](FieldKind kind, const char*, Tensor& t, const std::string symbols, const char*) {
    if (!t) return;
    const bool gathered = symbols.rfind("vocab", 0) == 0 || symbols.rfind("pages", 0) == 0;  // a row a token
    const int64_t values = gathered ? tokens * (t.rank == 4 ? t[1] * t[3] : t.row_size()) : t.size();
    const bool both = kind == FieldKind::state && !gathered;
    c.bytes += double(dtype_bytes(t.dtype, values)) * (both ? 2 : 1);
  });
  c.measure = [made](const Backend& backend, int* calls) {
    Op op = made->op;
    std::vector<void*> memory;
    each_tensor(op, [&](FieldKind, const char*, Tensor& t, const char*, const char*) {
      if (t) memory.push_back(t.data = place(backend, t, made->tensors.fill(t)));
    });
    Scratch scratch;
    Context cx{ThreadPool::global(), scratch};
    const double seconds = measure_calls(
        backend, [&] { backend.run[op_id<Op>()](&op, cx); }, calls);
    for (void* p : memory) backend.free(p);
    return seconds;
  };
  return c;
}

// The cases of cuda/bench/cases_*.cc.
std::vector<Case> streaming_cases();
std::vector<Case> recurrence_cases();
std::vector<Case> hybrid_cases();
std::vector<Case> product_cases();
std::vector<Case> system_cases();

}  // namespace statespace::bench
