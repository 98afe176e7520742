// Linear and Embedding on every backend, every weight type and layout, against f64.
#include "ops/linear.h"

#include <array>
#include <cstring>

#include "ops/embedding.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

uint16_t to_bf16(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
float from_bf16(uint16_t b) {
  const uint32_t u = uint32_t(b) << 16;
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}
// Values of magnitude in [2^-14, 2) or 0, which is all that the tests use.
uint16_t to_f16(float x) {
  uint32_t u;
  std::memcpy(&u, &x, 4);
  const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
  if (magnitude < 0x38800000) return uint16_t(sign);
  return uint16_t(sign | (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}
float from_f16(uint16_t h) {
  if (!(h & 0x7fff)) return 0;
  const uint32_t u = uint32_t(h & 0x8000) << 16 | (uint32_t(h & 0x7fff) + (112u << 10)) << 13;
  float x;
  std::memcpy(&x, &u, 4);
  return x;
}

// A matrix in some dtype, with the f32 values that it stands for.
struct Matrix {
  Matrix(const std::vector<float>& source, int64_t rows, int64_t columns, DType dtype)
      : values(source), bytes(dtype_bytes(dtype, rows * columns)) {
    tensor.rank = 2;
    tensor.shape[0] = rows, tensor.shape[1] = tensor.row_stride = columns;
    tensor.dtype = dtype;
    tensor.data = bytes.data();
    auto* half = reinterpret_cast<uint16_t*>(bytes.data());
    if (dtype == DType::f32 && !bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    for (size_t i = 0; i < values.size(); ++i) {
      if (dtype == DType::bf16) values[i] = from_bf16(half[i] = to_bf16(values[i]));
      if (dtype == DType::f16) values[i] = from_f16(half[i] = to_f16(values[i]));
    }
    if (dtype == DType::q8_0 || dtype == DType::q4_0)
      for (size_t i = 0; i < values.size(); i += kQuantBlock) quantise(i);
  }
  // Scales are powers of two; quants from the values.
  void quantise(size_t i) {
    const bool q8 = tensor.dtype == DType::q8_0;
    uint8_t* block = bytes.data() + i / kQuantBlock * (q8 ? 34 : 18);
    const float scale = (i / kQuantBlock % 2 ? 1.f : 0.5f) / (q8 ? 128 : 8);
    const uint16_t h = to_f16(scale);
    std::memcpy(block, &h, 2);
    for (size_t j = 0; j < size_t(kQuantBlock); ++j) {
      const float limit = q8 ? 127 : 7;
      const float q = std::round(std::min(limit, std::max(-limit - 1, values[i + j] / scale)));
      values[i + j] = q * scale;
      if (q8)
        block[2 + j] = uint8_t(int8_t(q));
      else if (j < 16)
        block[2 + j] = uint8_t(int(q) + 8);
      else
        block[2 + j - 16] |= uint8_t((int(q) + 8) << 4);
    }
  }
  float at(int64_t i, int64_t j) const { return values[i * tensor.shape[1] + j]; }

  std::vector<float> values;
  std::vector<uint8_t> bytes;
  Tensor tensor;
};

// The weight as the backend lays it out at load.
struct Packed {
  Packed(const Backend& backend, const Tensor& weight) {
    int64_t bytes = 0;
    tensor = backend.packed(weight, &bytes);
    if (!backend.host_memory) {  // devices keep rows
      tensor = weight;
      return;
    }
    memory = Buffer(bytes);
    tensor.data = memory.data();
    Scratch scratch;
    Context cx{ThreadPool::global(), scratch};
    backend.pack(weight, tensor, cx);
  }
  Buffer memory;
  Tensor tensor;
};

double activate(double v, int32_t which) {
  switch (static_cast<Activation>(which)) {
    case Activation::silu:
      return v / (1 + std::exp(-v));
    case Activation::relu2:
      return v > 0 ? v * v : 0;
    default:
      return v;
  }
}

// Largest error relative to the root mean square of the expected values.
double relative_error(const std::vector<float>& y, const std::vector<double>& expected) {
  double worst = 0, squares = 0;
  for (size_t i = 0; i < y.size(); ++i) {
    const double e = std::fabs(y[i] - expected[i]);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
    squares += expected[i] * expected[i];
  }
  return y.empty() ? 0 : worst / std::max(1e-30, std::sqrt(squares / double(y.size())));
}

struct Case {
  int64_t rows, in, out;
  DType weight = DType::f32, x = DType::f32;
  bool extras = false;  // bias, activation, residual
  int64_t pad = 0;      // columns after each row of x, residual and y
};

std::vector<float> run_linear(const Backend& backend, const Case& c, bool pack, std::vector<double>& expected,
                              ThreadPool& pool = ThreadPool::global()) {
  const Matrix weight(uniform(c.out * c.in, 1), c.out, c.in, c.weight);
  const Matrix x(uniform(c.rows * (c.in + c.pad), 2), c.rows, c.in + c.pad, c.x);
  const auto bias = uniform(c.out, 3), residual = uniform(c.rows * (c.out + c.pad), 4);
  std::vector<float> y(c.rows * (c.out + c.pad), NAN);
  Linear op;
  op.x = x.tensor;
  op.x.shape[1] = c.in;
  const Packed packed(backend, weight.tensor);
  op.weight = pack ? packed.tensor : weight.tensor;
  auto strided = [&](const std::vector<float>& data) {
    Tensor t = view(const_cast<std::vector<float>&>(data), {c.rows, c.out});
    t.row_stride = c.out + c.pad;
    // An empty vector has no address, and an absent tensor is one without data.
    static float nothing;
    if (!t.data) t.data = &nothing;
    return t;
  };
  op.y = strided(y);
  static uint8_t nothing;
  if (!op.x.data) op.x.data = &nothing;
  if (c.extras) {
    op.bias = view(const_cast<std::vector<float>&>(bias), {c.out});
    op.residual = strided(residual);
    op.activation = static_cast<int32_t>(Activation::silu);
  }
  run(backend, op, pool);
  std::vector<float> result;
  expected.clear();
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t o = 0; o < c.out; ++o) {
      double sum = c.extras ? bias[o] : 0;
      for (int64_t k = 0; k < c.in; ++k) sum += double(x.at(i, k)) * weight.at(o, k);
      sum = activate(sum, op.activation) + (c.extras ? residual[i * (c.out + c.pad) + o] : 0);
      expected.push_back(sum);
      result.push_back(y[i * (c.out + c.pad) + o]);
    }
    for (int64_t o = c.out; o < c.out + c.pad; ++o) CHECK(std::isnan(y[i * (c.out + c.pad) + o]));
  }
  return result;
}

// Tensor cores and, where the machine has them, products of pairs of bf16 multiply in the weight's type: x is rounded
// to it, by 2^-9 for bf16.
double tolerance(const Backend& backend, DType weight) {
  if (!backend.host_memory && weight != DType::f32) return weight == DType::bf16 ? 3e-2 : 4e-3;
  const std::string name = backend.name;
  return weight == DType::bf16 && (name == "avx512" || name.substr(0, 3) == "amx") ? 2e-2 : 1e-5;
}

void check_case(const Case& c) {
  CAPTURE(c.rows);
  CAPTURE(c.in);
  CAPTURE(c.out);
  CAPTURE(std::string(dtype_name(c.weight)));
  CAPTURE(std::string(dtype_name(c.x)));
  each_backend([&](const Backend& backend) {
    for (bool pack : {false, true}) {
      CAPTURE(pack);
      std::vector<double> expected;
      const auto y = run_linear(backend, c, pack, expected);
      CHECK(relative_error(y, expected) < tolerance(backend, c.weight));
    }
  });
}

constexpr DType kWeightTypes[] = {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0};

}  // namespace

TEST_CASE("linear: sizes that fill no tile") {
  for (const auto& [rows, in, out] : {std::tuple{1, 1, 1},
                                      {1, 5, 1},
                                      {3, 7, 10},
                                      {13, 33, 31},
                                      {14, 64, 32},
                                      {15, 100, 33},
                                      {16, 48, 80},
                                      {17, 63, 65},
                                      {29, 129, 6},
                                      {67, 70, 130},
                                      {300, 40, 390}})  // large tiles on a device
    for (DType t : {DType::f32, DType::f16, DType::bf16}) check_case({rows, in, out, t});
}

TEST_CASE("linear: matrices that are large enough for products in bf16") {
  const std::vector<std::array<int64_t, 3>> sizes = {{1, 256, 256},  {2, 300, 270},  {4, 257, 300}, {7, 256, 260},
                                                     {15, 320, 257}, {30, 321, 256}, {50, 256, 289}};
  for (const auto& [rows, in, out] : sizes) check_case({rows, in, out, DType::bf16, DType::f32, true, 3});
}

TEST_CASE("linear: bf16 on a unit of tiles, in memory") {
  const Backend* tiles = cpu_backend("amx-emulated");
  if (!tiles) return;  // not an x86-64 with AVX-512
  const std::vector<std::array<int64_t, 3>> sizes = {{8, 256, 256},  {16, 300, 270}, {17, 257, 300},
                                                     {33, 256, 260}, {70, 321, 289}, {200, 288, 320}};
  for (const auto& [rows, in, out] : sizes)
    for (DType x : {DType::f32, DType::bf16})
      for (bool pack : {false, true}) {
        CAPTURE(rows);
        CAPTURE(in);
        CAPTURE(out);
        CAPTURE(pack);
        std::vector<double> expected;
        const auto y = run_linear(*tiles, {rows, in, out, DType::bf16, x, true, 3}, pack, expected);
        const double error = relative_error(y, expected);
        CHECK(error < 2e-2);
        if (x == DType::f32) CHECK(error > 1e-5);  // x was rounded: this is not the vectors' product
      }
}

TEST_CASE("linear: quantised weights") {
  for (const auto& [rows, in, out] :
       {std::tuple{1, 32, 1}, {1, 96, 40}, {3, 64, 33}, {9, 160, 31}, {16, 32, 64}, {31, 64, 70}, {290, 64, 300}})
    for (DType t : {DType::q8_0, DType::q4_0}) check_case({rows, in, out, t});
}

TEST_CASE("linear: no rows") {
  for (DType t : kWeightTypes) check_case({0, 32, 10, t});
}

TEST_CASE("linear: x in half precision, strided x, residual and y, bias and activation") {
  for (DType weight : kWeightTypes)
    for (DType x : {DType::f32, DType::f16, DType::bf16})
      for (int64_t rows : {1, 2, 6, 20, 40}) check_case({rows, 64, 37, weight, x, true, 3});
}

TEST_CASE("linear: results do not depend on the number of threads or of rows, of many rows nor on the layout") {
  each_backend([&](const Backend& backend) {
    ThreadPool one(1), three(3);
    std::vector<double> expected;
    for (const auto& [type, out] : {std::pair{DType::f32, 190},
                                    {DType::f32, 80},  // the last panel is half empty
                                    {DType::f16, 190},
                                    {DType::f16, 80},
                                    {DType::bf16, 190}}) {
      if (!backend.host_memory && type != DType::f32) continue;  // few rows are not multiplied on tensor cores
      const Case c{40, 301, out, type}, many{70, 301, out, type};
      if (backend.host_memory)
        CHECK(run_linear(backend, many, true, expected, one) == run_linear(backend, many, false, expected, three));
      for (bool pack : {false, true}) {
        CAPTURE(pack);
        const auto y = run_linear(backend, c, pack, expected, one);
        CHECK(y == run_linear(backend, c, pack, expected, three));
        for (int64_t rows : {1, 2, 3, 4, 7, 22}) {
          Case first = c;
          first.rows = rows;
          const auto part = run_linear(backend, first, pack, expected, three);
          const std::vector<float> same(y.begin(), y.begin() + rows * c.out);
          if (backend.host_memory)
            CHECK(part == same);
          else  // which sums few rows in another order
            CHECK(test::relative_error(part, same) < 1e-6);
        }
      }
    }
  });
}

TEST_CASE("linear: rows that pass by a weight in rows, and the first that are too many") {
  for (DType t : {DType::f32, DType::f16, DType::bf16})
    for (int64_t rows : {63, 64, 100, 128, 129}) check_case({rows, 515, 261, t, DType::f32, true, 3});
  check_case({190, 1300, 70, DType::f32});
}

TEST_CASE("linear: few rows by long rows of a weight, whose next part is fetched from the same row") {
  for (DType t : {DType::f32, DType::f16, DType::bf16})
    for (int64_t rows : {1, 5, 9, 14}) check_case({rows, 4500, 70, t, DType::f32, true, 3});
}

TEST_CASE("linear: tiles that threads make side by side stay apart") {
  each_backend([&](const Backend& backend) {
    ThreadPool one(1), three(3);
    std::vector<double> expected;
    for (int64_t rows : {16, 33, 50}) {  // in tiles lower than a vector
      const Case c{rows, 64, 70, DType::f32};
      const auto y = run_linear(backend, c, true, expected, one);
      int same = 0;
      for (int i = 0; i < (backend.host_memory ? 100 : 1); ++i)
        same += run_linear(backend, c, true, expected, three) == y;
      CHECK(same == (backend.host_memory ? 100 : 1));
    }
  });
}

TEST_CASE("embedding: rows of a weight, packed or not") {
  each_backend([&](const Backend& backend) {
    for (DType t : kWeightTypes)
      for (bool pack : {false, true}) {
        CAPTURE(dtype_name(t));
        CAPTURE(pack);
        const Matrix weight(uniform(70 * 96, 5), 70, 96, t);
        const Packed packed(backend, weight.tensor);
        std::vector<int32_t> ids = {69, 0, 33, 7, 32, 7};
        std::vector<float> y(ids.size() * 96);
        Embedding op;
        op.ids = view(ids);
        op.weight = pack ? packed.tensor : weight.tensor;
        op.y = view(y, {int64_t(ids.size()), 96});
        op.scale = 2;
        run(backend, op);
        for (size_t i = 0; i < ids.size(); ++i)
          for (int64_t j = 0; j < 96; ++j) CHECK(y[i * 96 + j] == 2 * weight.at(ids[i], j));
      }
  });
}
