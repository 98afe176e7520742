#include "ops/ssd.h"

#include <cstring>

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

struct Case {
  int64_t nheads, headdim, ngroups, d_state;
  std::vector<int32_t> bounds = {0, 100};
  std::vector<int32_t> slots = {0};
  int64_t pool = 1, chunk_size = 256;
  bool softplus = true, gate = true, bias = true;
  int D = 1;  // rank, 0: absent
  DType dtype = DType::f32;
  float dt_min = 0, dt_max = INFINITY, decay = 1;

  int64_t tokens() const { return bounds.back(); }
  // Inputs are read from wider rows.
  int64_t x_row() const { return nheads * headdim + 3; }
  int64_t b_row() const { return ngroups * d_state + 7; }
};

struct Inputs {
  std::vector<float> x, dt, A, B, C, D, z, bias, state;
  explicit Inputs(const Case& c) {
    const int64_t T = c.tokens();
    x = uniform(T * c.x_row(), 1), dt = uniform(T * (c.nheads + 1), 2, c.softplus ? -4 : 0, c.softplus ? 1 : 0.5f);
    A = uniform(c.nheads, 3, -4 * c.decay, -0.2f * c.decay);
    B = uniform(T * c.b_row(), 4), C = uniform(T * c.b_row(), 5), D = uniform(c.nheads * c.headdim, 6);
    z = uniform(T * c.x_row(), 7, -6, 6), bias = uniform(c.nheads, 8, 0, 0.5f);
    state = uniform(c.pool * c.nheads * c.headdim * c.d_state, 9);
    for (auto* v : {&x, &B, &C}) round_to(*v, c.dtype);
  }
  // Halves are exact in f32, so that only the kernel's own rounding is measured.
  static void round_to(std::vector<float>& v, DType type) {
    if (type != DType::f32)
      for (auto& f : v) f = std::round(f * 64) / 64;
  }
};

struct Result {
  std::vector<float> y, state;
};

Result expected(const Case& c, const Inputs& in) {
  Result r{std::vector<float>(c.tokens() * c.nheads * c.headdim), in.state};
  for (size_t s = 0; s + 1 < c.bounds.size(); ++s)
    for (int64_t h = 0; h < c.nheads; ++h) {
      const int64_t group = h / (c.nheads / c.ngroups), size = c.headdim * c.d_state;
      float* first = &r.state[(c.slots[s] * c.nheads + h) * size];
      std::vector<double> S(first, first + size);
      for (int64_t t = c.bounds[s]; t < c.bounds[s + 1]; ++t) {
        double dt = double(in.dt[t * (c.nheads + 1) + h]) + (c.bias ? in.bias[h] : 0);
        if (c.softplus) dt = std::log1p(std::exp(dt));
        dt = std::min<double>(c.dt_max, std::max<double>(c.dt_min, dt));
        const double decay = std::exp(dt * in.A[h]);
        for (int64_t p = 0; p < c.headdim; ++p) {
          const double x = in.x[t * c.x_row() + h * c.headdim + p];
          double y = c.D ? x * in.D[c.D == 1 ? h : h * c.headdim + p] : 0;
          for (int64_t n = 0; n < c.d_state; ++n) {
            double& state = S[p * c.d_state + n];
            state = decay * state + dt * x * in.B[t * c.b_row() + group * c.d_state + n];
            y += state * in.C[t * c.b_row() + group * c.d_state + n];
          }
          const double z = in.z[t * c.x_row() + h * c.headdim + p];
          r.y[(t * c.nheads + h) * c.headdim + p] = float(c.gate ? y * z / (1 + std::exp(-z)) : y);
        }
      }
      std::copy(S.begin(), S.end(), first);
    }
  return r;
}

// The bits of the values in a half type; all are exact in it.
std::vector<uint16_t> halves(const std::vector<float>& v, DType type) {
  std::vector<uint16_t> out;
  for (float f : v) {
    uint32_t u;
    std::memcpy(&u, &f, 4);
    const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    const uint32_t f16 = magnitude < (113u << 23) ? uint32_t(std::fabs(f) * 0x1p24f) : (magnitude - (112u << 23)) >> 13;
    out.push_back(uint16_t(type == DType::bf16 ? u >> 16 : sign | f16));
  }
  return out;
}

Result actual(const Backend& backend, const Case& c, Inputs in, int mode, ThreadPool& pool = ThreadPool::global()) {
  const int64_t T = c.tokens();
  std::vector<float> y(T * c.nheads * c.headdim, NAN);
  std::vector<int32_t> bounds = c.bounds, slots = c.slots;
  std::vector<std::vector<uint16_t>> converted;
  converted.reserve(3);
  auto input = [&](std::vector<float>& v, std::initializer_list<int64_t> shape, int64_t stride) {
    Tensor t = view(v, shape);
    t.row_stride = stride;
    if (c.dtype == DType::f32) return t;
    converted.push_back(halves(v, c.dtype));
    t.data = converted.back().data(), t.dtype = c.dtype;
    return t;
  };
  Ssd op;
  op.x = input(in.x, {T, c.nheads, c.headdim}, c.x_row());
  op.dt = view(in.dt, {T, c.nheads});
  op.dt.row_stride = c.nheads + 1;
  op.A = view(in.A, {c.nheads});
  op.B = input(in.B, {T, c.ngroups, c.d_state}, c.b_row());
  op.C = input(in.C, {T, c.ngroups, c.d_state}, c.b_row());
  if (c.D == 1) op.D = view(in.D, {c.nheads});
  if (c.D == 2) op.D = view(in.D, {c.nheads, c.headdim});
  if (c.gate) op.z = view(in.z, {T, c.nheads, c.headdim}), op.z.row_stride = c.x_row();
  if (c.bias) op.dt_bias = view(in.bias, {c.nheads});
  op.cu_seqlens = view(bounds), op.slots = view(slots);
  op.state = view(in.state, {c.pool, c.nheads, c.headdim, c.d_state});
  op.y = view(y, {T, c.nheads, c.headdim});
  op.dt_softplus = c.softplus, op.dt_min = c.dt_min, op.dt_max = c.dt_max, op.chunk_size = c.chunk_size;
  op.mode = mode;
  run(backend, op, pool);
  return {y, in.state};
}

void check_case(const Case& c, double bound = 3e-6) {
  const Inputs in(c);
  const Result want = expected(c, in);
  const auto check = [&](const Backend& backend) {
    for (int mode : {0, 1, 2}) {
      CAPTURE(mode);
      const Result got = actual(backend, c, in, mode);
      CHECK(relative_error(got.y, want.y) < bound);
      CHECK(relative_error(got.state, want.state) < bound);
    }
  };
  c.dtype == DType::bf16 ? each_backend_and_tiles(check) : each_backend(check);
}

}  // namespace

TEST_CASE("ssd equals its formula in every mode, for any sizes") {
  check_case({.nheads = 4, .headdim = 64, .ngroups = 1, .d_state = 128});
  check_case({.nheads = 6, .headdim = 8, .ngroups = 3, .d_state = 256, .gate = false, .D = 2});
  check_case({.nheads = 3, .headdim = 5, .ngroups = 1, .d_state = 7, .bias = false, .D = 0});
  check_case({.nheads = 1, .headdim = 1, .ngroups = 1, .d_state = 1});
  check_case({.nheads = 26, .headdim = 24, .ngroups = 2, .d_state = 16, .softplus = false, .D = 2});
  check_case({.nheads = 2, .headdim = 100, .ngroups = 2, .d_state = 40, .dt_min = 0.05f, .dt_max = 0.3f});
}

TEST_CASE("ssd takes any length and chunk size") {
  for (int32_t length : {1, 2, 15, 16, 17, 63, 64, 65, 130})
    for (int64_t chunk_size : {1, 5, 16, 60, 64, 1000}) {
      CAPTURE(length);
      CAPTURE(chunk_size);
      check_case(
          {.nheads = 2, .headdim = 20, .ngroups = 1, .d_state = 24, .bounds = {0, length}, .chunk_size = chunk_size});
    }
}

TEST_CASE("ssd runs ragged, empty and single-token sequences on their own slots") {
  Case c{.nheads = 4, .headdim = 12, .ngroups = 2, .d_state = 20};
  c.bounds = {0, 0, 1, 70, 70, 90, 91, 250}, c.slots = {1, 8, 0, 3, 7, 2, 4}, c.pool = 9;
  check_case(c);
  c.bounds = {0, 1, 2, 3, 4, 5, 6, 7};
  check_case(c);
  c.bounds = {0, 0, 0, 0, 0, 0, 0, 0};
  check_case(c);
}

TEST_CASE("ssd stays exact when decays are extreme, and forgets without a NaN") {
  for (float decay : {1e-3f, 30.f, 1e3f, 1e6f}) {
    CAPTURE(decay);
    check_case({.nheads = 3, .headdim = 10, .ngroups = 1, .d_state = 20, .bounds = {0, 300}, .decay = decay});
  }
}

TEST_CASE("ssd reads bf16 and f16 inputs") {
  for (DType dtype : {DType::bf16, DType::f16}) {
    // Where the machine multiplies bf16, the chunks' operands are rounded to it.
    const double bound = dtype == DType::bf16 ? 5e-3 : 3e-6;
    Case c{.nheads = 4, .headdim = 30, .ngroups = 2, .d_state = 40, .D = 2, .dtype = dtype};
    check_case(c, bound);
    c.bounds = {0, 3};
    check_case(c, bound);
    c.bounds = {0, 40, 41, 250}, c.slots = {1, 2, 0}, c.pool = 3;
    check_case(c, bound);
    for (int32_t length : {16, 17, 63, 64, 65, 79, 130}) {
      CAPTURE(length);
      check_case({.nheads = 3, .headdim = 21, .ngroups = 1, .d_state = 5, .bounds = {0, length}, .dtype = dtype},
                 bound);
      check_case({.nheads = 2,
                  .headdim = 64,
                  .ngroups = 1,
                  .d_state = 128,
                  .bounds = {0, length},
                  .chunk_size = 33,
                  .dtype = dtype},
                 bound);
    }
  }
}

TEST_CASE("ssd: threads change no bit") {
  Case c{.nheads = 24, .headdim = 16, .ngroups = 2, .d_state = 32};
  c.bounds = {0, 90, 95, 300}, c.slots = {0, 1, 2}, c.pool = 3;
  const Inputs in(c);
  each_backend([&](const Backend& backend) {
    ThreadPool one(1), three(3), five(5);
    for (int mode : {0, 1, 2}) {
      const Result a = actual(backend, c, in, mode, one);
      for (ThreadPool* pool : {&three, &five}) {
        if (!backend.host_memory && pool == &five) continue;  // a device has no use for the pool: once again is enough
        const Result b = actual(backend, c, in, mode, *pool);
        CHECK(a.y == b.y);
        CHECK(a.state == b.state);
      }
    }
  });
}

TEST_CASE("ssd names what is wrong") {
  std::vector<float> data(256);
  Ssd op;
  op.x = view(data, {2, 4, 3});
  op.dt = view(data, {2, 4});
  op.A = view(data, {4});
  op.B = op.C = view(data, {2, 3, 5});
  op.state = view(data, {1, 4, 3, 5});
  op.y = view(data, {2, 4, 3});
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("nheads 4 is no multiple of ngroups 3"), Error);
  op.B = op.C = view(data, {2, 2, 5});
  op.chunk_size = 0;
  CHECK_THROWS_WITH_AS(check(op), doctest::Contains("chunkSize"), Error);
}
