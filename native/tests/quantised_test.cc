// Products of every quantised type, on every backend and in both layouts, against f64 over the decoded values.
#include "backend/cpu_tables.h"
#include "core/blocks.h"
#include "core/conversions.h"
#include "core/quantise.h"
#include "ops/embedding.h"
#include "ops/linear.h"
#include "ops/moe.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

constexpr DType kTypes[] = {DType::q8_0,   DType::q4_0,   DType::q4_1, DType::q5_0, DType::q5_1,
                            DType::q2_k,   DType::q3_k,   DType::q4_k, DType::q5_k, DType::q6_k,
                            DType::iq4_nl, DType::iq4_xs, DType::mxfp4};

// Rows of blocks, and what they stand for.
struct Blocks {
  Blocks(DType type, int64_t rows, int64_t columns) : Blocks(type, rows, columns, nullptr) {
    // Neither centred nor of one size, so that scales and minima differ from block to block.
    for (size_t i = 0; i < values.size(); ++i) values[i] = (values[i] + 0.2f) * (1 + float(i / 32 % 5));
    encode_blocks(type, values.data(), rows * columns, nullptr, bytes.data());
    decode_blocks(type, bytes.data(), rows * columns, values.data());
  }
  std::vector<uint8_t> bytes;
  std::vector<float> values;
  Tensor tensor;

 protected:
  Blocks(DType type, int64_t rows, int64_t columns, std::nullptr_t)
      : bytes(dtype_bytes(type, rows * columns)), values(uniform(rows * columns, 1)) {
    tensor.rank = 2;
    tensor.shape[0] = rows, tensor.shape[1] = tensor.row_stride = columns;
    tensor.dtype = type;
    tensor.data = bytes.data();
  }
};

struct Packed {
  Packed(const Backend& backend, const Tensor& weight) {
    int64_t bytes = 0;
    tensor = backend.packed(weight, &bytes);
    memory = Buffer(bytes);
    tensor.data = memory.data();
    Scratch scratch;
    Context cx{ThreadPool::global(), scratch};
    backend.pack(weight, tensor, cx);
    size = bytes;
  }
  Buffer memory;
  Tensor tensor;
  int64_t size;
};

std::vector<float> multiply(const Backend& backend, const Tensor& weight, std::vector<float>& x, bool exact = false,
                            ThreadPool& pool = ThreadPool::global()) {
  const int64_t in = weight[1], out = weight[0], rows = int64_t(x.size()) / in;
  std::vector<float> y(rows * out, NAN);
  Linear op;
  op.x = view(x, {rows, in});
  op.weight = weight;
  op.y = view(y, {rows, out});
  check(op);
  Scratch scratch;
  Context cx{pool, scratch};
  cx.exact = exact;
  backend.run[op_id<Linear>()](&op, cx);
  return y;
}

// The products in f64.
std::vector<double> products(const std::vector<float>& x, const Blocks& w) {
  const int64_t in = w.tensor[1], out = w.tensor[0], rows = int64_t(x.size()) / in;
  std::vector<double> y(rows * out);
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t o = 0; o < out; ++o)
      for (int64_t k = 0; k < in; ++k) y[i * out + o] += double(x[i * in + k]) * w.values[o * in + k];
  return y;
}

// Relative L2 error; `exact` may have more rows.
double error_of(const std::vector<float>& y, const std::vector<double>& exact) {
  double errors = 0, squares = 0;
  for (size_t i = 0; i < y.size(); ++i) errors += (y[i] - exact[i]) * (y[i] - exact[i]), squares += exact[i] * exact[i];
  return std::sqrt(errors / squares);
}

template <class Fn>
void each_host_backend(Fn&& fn) {
  each_backend([&](const Backend& backend) {
    if (backend.host_memory) fn(backend);
  });
}
template <class Fn>
void each_host_backend_and_tiles(Fn&& fn) {
  each_backend_and_tiles([&](const Backend& backend) {
    if (backend.host_memory) fn(backend);
  });
}

// Rows of blocks of any codes and parts of scales, or of one byte over and over, whose own scales are 1: all values are
// whole numbers.
struct WholeBlocks : Blocks {
  WholeBlocks(DType type, int64_t rows, int64_t columns, int fill = -1) : Blocks(type, rows, columns, nullptr) {
    uint32_t random = 1;
    for (uint8_t& byte : bytes)
      byte = fill < 0 ? uint8_t((random = random * 1664525 + 1013904223) >> 24) : uint8_t(fill);
    const auto one = [&](uint8_t* at) { at[0] = 0, at[1] = 0x3c; };
    for (int64_t b = 0; b < int64_t(bytes.size()); b += dtype_bytes(type, dtype_block(type))) {
      uint8_t* block = bytes.data() + b;
      if (type == DType::mxfp4)
        block[0] = 128;
      else if (type == DType::q2_k)
        one(block + 80), one(block + 82);
      else
        one(block + (type == DType::q3_k ? 108 : type == DType::q6_k ? 208 : 0));
      if (type == DType::q4_1 || type == DType::q5_1 || type == DType::q4_k || type == DType::q5_k) one(block + 2);
    }
    decode_blocks(type, bytes.data(), rows * columns, values.data());
  }
};

// fn(backend, type) with every type that a device's products read, where the run is on one.
template <class Fn>
void each_device_type(Fn&& fn) {
  each_backend([&](const Backend& backend) {
    for (DType type : kTypes) {
      if (backend.host_memory || !is_held_on_device(type)) continue;
      CAPTURE(std::string(dtype_name(type)));
      fn(backend, type);
    }
  });
}

}  // namespace

TEST_CASE("quantised: searched blocks have the same bytes on every instruction set") {
  const auto x = uniform(256, 3), w = uniform(256, 4);
  std::vector<float> importance(256);
  for (int i = 0; i < 256; ++i) importance[i] = w[i] * w[i];
  for (const DType type :
       {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs})
    for (const float* weights : {static_cast<const float*>(nullptr), static_cast<const float*>(importance.data())}) {
      std::vector<uint8_t> plain(dtype_bytes(type, dtype_block(type))), wide(plain.size());
      scalar::conversions().search_block(type, x.data(), weights, plain.data());
      conversions().search_block(type, x.data(), weights, wide.data());
      CAPTURE(int(type));
      CHECK(plain == wide);
    }
}

TEST_CASE("quantised products: every type, number of rows and layout") {
  for (DType type : kTypes)
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{256, 290}, {768, 37}, {512, 545}}) {
      const Blocks w(type, out, in);
      const auto all = uniform(60 * in, 2);
      const auto exact = products(all, w);  // once: under ASan it takes longer than all else here
      const bool large = std::min(in, out) >= 512;
      each_host_backend([&](const Backend& backend) {
        const Packed packed(backend, w.tensor);
        CHECK(packed.size <= double(w.bytes.size()) * 1.05 * ((out + 31) / 32 * 32) / double(out));
        for (int64_t rows : {1, 2, 3, 5, 9, 60}) {
          CAPTURE(std::string(dtype_name(type)));
          CAPTURE(in);
          CAPTURE(out);
          CAPTURE(rows);
          std::vector<float> x(all.begin(), all.begin() + rows * in);
          for (bool pack : {false, true}) {
            CAPTURE(pack);
            const Tensor& weight = pack ? packed.tensor : w.tensor;
            const double rounded = error_of(multiply(backend, weight, x), exact);
            CHECK(rounded < (large ? 8e-3 : std::min(in, out) >= 256 ? 5e-5 : 1e-6));
            if (large) CHECK(rounded > 1e-4);
            CHECK(error_of(multiply(backend, weight, x, true), exact) < 1e-6);
          }
        }
      });
    }
}

TEST_CASE("quantised products: whole numbers are exact, on every instruction set and on tiles in memory") {
  for (DType type : kTypes)
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{512, 513}, {256, 37}}) {
      const WholeBlocks w(type, out, in);
      auto all = uniform(18 * in, 2, -3, 3);
      for (size_t i = 0; i < all.size(); ++i)  // the largest of each 32 is 127, so that the scale is 1
        all[i] = i % 32 == i / 32 % 32 ? (i / 32 % 2 ? 127.f : -127.f) : std::trunc(all[i]);
      const auto exact = products(all, w);
      for (double y : exact) REQUIRE(std::fabs(y) < 0x1p24);
      each_host_backend_and_tiles([&](const Backend& backend) {
        const Packed packed(backend, w.tensor);
        for (int64_t rows : {1, 2, 3, 5, 18}) {
          CAPTURE(std::string(dtype_name(type)));
          CAPTURE(in);
          CAPTURE(rows);
          std::vector<float> x(all.begin(), all.begin() + rows * in);
          for (const Tensor& weight : {w.tensor, packed.tensor}) {
            const auto y = multiply(backend, weight, x);
            CHECK(std::equal(y.begin(), y.end(), exact.begin()));
          }
        }
      });
    }
}

TEST_CASE("quantised products: the largest codes by the largest rows of int8 do not overflow") {
  constexpr int64_t kSide = 512;
  std::vector<float> x(7 *
                       kSide);  // blocks of 127 and -127 by turns, so that sums in f32 stay exact; the last is small
  for (size_t i = 0; i < x.size(); ++i) {
    const int64_t k = int64_t(i) % kSide;
    x[i] = k < kSide - 31 ? (k / 32 % 2 ? -127.f : 127.f) : 1.f;
  }
  for (DType type : kTypes)
    for (int fill : {0xff, 0x00, 0x77, 0x7f, 0x80}) {
      const WholeBlocks w(type, kSide, kSide, fill);
      const auto exact = products(x, w);
      each_host_backend_and_tiles([&](const Backend& backend) {
        CAPTURE(std::string(dtype_name(type)));
        CAPTURE(fill);
        for (int64_t rows : {1, 2, 7}) {
          std::vector<float> first(x.begin(), x.begin() + rows * kSide);
          const auto y = multiply(backend, w.tensor, first);
          CHECK(std::equal(y.begin(), y.end(), exact.begin()));
        }
      });
    }
}

TEST_CASE("quantised products: tiles in memory give the bits of the vectors") {
  const Backend *tiles = cpu_backend("amx-emulated"), *vectors = cpu_backend("avx512");
  if (!tiles) return;  // not an x86-64 with AVX-512
  for (DType type : kTypes)
    for (int64_t side : {256, 512}) {
      CAPTURE(std::string(dtype_name(type)));
      const WholeBlocks w(type, side + 7, side);
      const Packed packed(*vectors, w.tensor);
      for (int64_t rows : {7, 8, 17, 33}) {
        auto x = uniform(rows * side, 2);
        CHECK(multiply(*tiles, packed.tensor, x) == multiply(*vectors, packed.tensor, x));
      }
    }
}

TEST_CASE("quantised moe: as with what the blocks decode to") {
  constexpr int64_t kExperts = 2, kTokens = 20, kSide = 256;
  for (DType type : kTypes) {
    WholeBlocks gate_up(type, kExperts * 2 * kSide, kSide), down(type, kExperts * kSide, kSide);
    auto shape = [&](Tensor t, bool up) {
      t.rank = up ? 4 : 3;
      t.shape[0] = kExperts, t.shape[1] = up ? 2 : kSide, t.shape[2] = t.shape[3] = kSide;
      return t;
    };
    auto x = uniform(kTokens * kSide, 3), router = uniform(kExperts * kSide, 4);
    const auto mix = [&](const Backend& backend, const Tensor& up, const Tensor& back) {
      std::vector<float> y(kTokens * kSide, NAN);
      Moe op;
      op.x = view(x, {kTokens, kSide});
      op.router = view(router, {kExperts, kSide});
      op.gate_up = up, op.down = back;
      op.y = view(y, {kTokens, kSide});
      op.top_k = 1;
      run(backend, op);
      return y;
    };
    int count;
    const auto want =
        mix(*cpu_backend(available_cpu_backends(&count)[0]), shape(view(gate_up.values, {kSide, kSide}), true),
            shape(view(down.values, {kSide, kSide}), false));
    each_host_backend_and_tiles([&](const Backend& backend) {
      const Tensor up = shape(gate_up.tensor, true), back = shape(down.tensor, false);
      const Packed packed_up(backend, up), packed_back(backend, back);
      CAPTURE(std::string(dtype_name(type)));
      CHECK(relative_error(mix(backend, up, back), want) < 1e-4);
      CHECK(relative_error(mix(backend, packed_up.tensor, packed_back.tensor), want) < 1e-4);
    });
  }
}

TEST_CASE("quantised products on a device: few rows and tiles of both sizes") {
  each_device_type([&](const Backend& backend, DType type) {
    for (const auto& [in, out] : {std::pair<int64_t, int64_t>{256, 70}, {768, 37}, {512, 300}}) {
      const Blocks w(type, out, in);
      const auto all = uniform(290 * in, 2);
      const auto exact = products(all, w);
      for (int64_t rows : {1, 3, 16, 17, 290}) {
        CAPTURE(in);
        CAPTURE(rows);
        std::vector<float> x(all.begin(), all.begin() + rows * in), y(rows * out, NAN);
        Linear op;
        op.x = view(x, {rows, in});
        op.weight = w.tensor;
        op.y = view(y, {rows, out});
        run(backend, op);
        CHECK(error_of(y, exact) < (rows <= 16 ? 1e-6 : 1e-3));  // more are rounded to f16
      }
    }
  });
}

TEST_CASE("quantised experts on a device are those of the decoded weights") {
  each_device_type([&](const Backend& backend, DType type) {
    constexpr int64_t kExperts = 4, kWidth = 256;
    Blocks up(type, kExperts * 2 * kWidth, kWidth), down(type, kExperts * kWidth, kWidth);
    for (int64_t tokens : {5, 90}) {
      CAPTURE(tokens);
      auto x = uniform(tokens * kWidth, 1), router = uniform(kExperts * kWidth, 2);
      std::vector<float> quantised(x.size(), NAN), decoded(x.size(), NAN);
      Moe op;
      op.x = view(x, {tokens, kWidth});
      op.router = view(router, {kExperts, kWidth});
      op.top_k = 2;
      op.gate_up = view(up.values, {kExperts, 2, kWidth, kWidth}),
      op.down = view(down.values, {kExperts, kWidth, kWidth});
      op.y = view(decoded, {tokens, kWidth});
      run(backend, op);
      op.gate_up.data = up.bytes.data(), op.down.data = down.bytes.data();
      op.gate_up.dtype = op.down.dtype = type;
      op.y.data = quantised.data();
      run(backend, op);
      CHECK(relative_error(quantised, decoded) < 2e-3);
    }
  });
}

TEST_CASE("quantised products: the same for any number of threads and rows, in both layouts") {
  each_host_backend([&](const Backend& backend) {
    ThreadPool one(1), three(3);
    for (DType type : kTypes) {
      CAPTURE(std::string(dtype_name(type)));
      const Blocks w(type, 270, 256);
      const Packed packed(backend, w.tensor);
      auto x = uniform(40 * 256, 2);
      const auto y = multiply(backend, packed.tensor, x, false, one);
      CHECK(y == multiply(backend, packed.tensor, x, false, three));
      CHECK(y == multiply(backend, w.tensor, x, false, three));
      for (int64_t rows : {1, 2, 3, 7}) {
        std::vector<float> first(x.begin(), x.begin() + rows * 256);
        CHECK(multiply(backend, packed.tensor, first, false, three) ==
              std::vector<float>(y.begin(), y.begin() + rows * 270));
      }
    }
  });
}

TEST_CASE("quantised products: what is no number stays none, zeros and tiny values are as good as zero") {
  each_host_backend_and_tiles([&](const Backend& backend) {
    const Blocks w(DType::q4_k, 256, 256);
    for (float bad : {NAN, INFINITY, -INFINITY}) {
      auto x = uniform(3 * 256, 2);
      x[256 + 77] = bad;
      const auto y = multiply(backend, w.tensor, x);
      for (int64_t o = 0; o < 256; ++o) {
        CHECK(std::isfinite(y[o]));
        CHECK(!std::isfinite(y[256 + o]));
        CHECK(std::isfinite(y[512 + o]));
      }
    }
    std::vector<float> x(2 * 256, 0.f);
    x[256] = 1e-36f;
    for (float y : multiply(backend, w.tensor, x)) CHECK(std::fabs(y) < 1e-34f);
  });
}

TEST_CASE("quantised weights: rows are what the blocks decode to, out of panels too") {
  std::vector<int32_t> ids = {69, 0, 33, 7, 32, 7};
  const auto check_rows = [&](const Backend& backend, const Blocks& w, const Tensor& weight) {
    std::vector<float> y(ids.size() * 512);
    Embedding op;
    op.ids = view(ids);
    op.weight = weight;
    op.y = view(y, {int64_t(ids.size()), 512});
    run(backend, op);
    for (size_t i = 0; i < ids.size(); ++i)
      for (int64_t j = 0; j < 512; ++j) {
        const float value = w.values[ids[i] * 512 + j];
        // A GPU's multiply-add does not round in between.
        CHECK(std::fabs(y[i * 512 + j] - value) <= (backend.host_memory ? 0 : 1e-6f));
      }
  };
  each_host_backend([&](const Backend& backend) {
    for (DType type : kTypes) {
      CAPTURE(std::string(dtype_name(type)));
      const Blocks w(type, 70, 512);
      check_rows(backend, w, w.tensor);
      check_rows(backend, w, Packed(backend, w.tensor).tensor);
    }
  });
  each_device_type([&](const Backend& backend, DType type) {
    const Blocks w(type, 70, 512);
    check_rows(backend, w, w.tensor);
  });
}
