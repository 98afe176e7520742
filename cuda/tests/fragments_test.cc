// The matrix fragments of the emulated device: products against plain sums, layouts as the PTX manual draws them, and
// what goes wrong without a wait or without rounding.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/halves.h"
#include "device.h"

namespace statespace::cuda {
namespace {

struct Args {
  global<const float> a, b;  // (16, 16) and (16, 8); or (16, 8) and (8, 8)
  global<float> d;           // (16, 8), added to
};

struct Shared {
  alignas(16) uint16_t a[16][24], b[16][8], copied[8][8];
};

uint16_t bits(f16 x) { return x.bits; }
uint16_t bits(bf16 x) { return x.bits; }

// d += a·b by way of shared memory, as the kernels do it.
template <class T>
__global__ void multiply(Args x) {
  auto& s = shared<Shared>();
  for (int i = lane(); i < 256; i += 32) s.a[i / 16][i % 16] = bits(from_float<T>(x.a[i]));
  for (int i = lane(); i < 128; i += 32) s.b[i / 8][i % 8] = bits(from_float<T>(x.b[i]));
  warp_barrier();
  uint32_t a[4], b[4];
  load_matrices(a, &s.a[lane() % 16][lane() / 16 * 8]);
  load_matrices_transposed(b, s.b[lane() % 16]);
  float d[4];
  for (int i = 0; i < 4; ++i) d[i] = x.d[(lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2];
  const uint32_t half[2] = {b[0], b[1]};
  mma<T>(d, a, half);
  for (int i = 0; i < 4; ++i) x.d[(lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2] = d[i];
}

template <bool kRounded>
__global__ void multiply_tf32(Args x) {
  auto round = [](float v) { return kRounded ? tf32(v) : v; };
  float a[4], b[2], d[4];
  for (int i = 0; i < 4; ++i) a[i] = round(x.a[(lane() / 4 + i % 2 * 8) * 8 + lane() % 4 + i / 2 * 4]);
  for (int i = 0; i < 2; ++i) b[i] = round(x.b[(lane() % 4 + 4 * i) * 8 + lane() / 4]);
  for (int i = 0; i < 4; ++i) d[i] = x.d[(lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2];
  mma_tf32(d, a, b);
  for (int i = 0; i < 4; ++i) x.d[(lane() / 4 + i / 2 * 8) * 8 + lane() % 4 * 2 + i % 2] = d[i];
}

// A row of eight halves a lane, of which an asynchronous copy brings four, without a wait.
__global__ void unwaited(Args x) {
  auto& s = shared<Shared>();
  for (int i = 0; i < 8; ++i) s.copied[lane() % 8][i] = 0;
  warp_barrier();
  if (lane() < 8) copy_async<8>(&s.copied[lane()][4], at(x.a, 2 * lane(), 2));
  copy_async_commit();
  warp_barrier();
  uint32_t r[4];
  load_matrices(r, s.copied[lane() % 8]);
  x.d[lane()] = to_float(f16{uint16_t(r[0])});
  copy_async_wait<0>();
}

__global__ void misplaced_row(Args x) {
  auto& s = shared<Shared>();
  uint32_t r[4];
  load_matrices(r, &s.a[0][lane() == 9 ? 1 : 0]);
  x.d[lane()] = float(r[0]);
}

struct Device {
  Scratch<float> a{256}, b{128}, d{128};
  Args args() const { return {a.data(), b.data(), d.data()}; }
};

float pseudo(int i) { return float((i * 7919 + 13) % 257 - 128) / 64; }

template <class T>
float rounded(float x) {
  return to_float(from_float<T>(x));
}

}  // namespace

extern std::string failure;

TEST_CASE("mma is a plain product, through both forms of load_matrices") {
  auto check = [](void (*kernel)(Args), auto round) {
    Device device;
    for (int i = 0; i < 256; ++i) device.a.data().get()[i] = pseudo(i) + 0.01f;
    for (int i = 0; i < 128; ++i) device.b.data().get()[i] = pseudo(i + 1000), device.d.data().get()[i] = float(i);
    launch(kernel, {1}, 32, device.args());
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        double expected = i * 8 + j;
        for (int k = 0; k < 16; ++k)
          expected += double(round(pseudo(i * 16 + k) + 0.01f)) * round(pseudo(k * 8 + j + 1000));
        CHECK(device.d.data().get()[i * 8 + j] == doctest::Approx(expected).epsilon(1e-6));
      }
  };
  check(multiply<f16>, rounded<f16>);
  check(multiply<bf16>, rounded<bf16>);
}

TEST_CASE("mma_tf32 is a plain product of rounded values, and NaN of others") {
  for (bool round : {true, false}) {
    Device device;
    for (int i = 0; i < 128; ++i) device.a.data().get()[i] = pseudo(i) + 1e-5f, device.d.data().get()[i] = float(i);
    for (int i = 0; i < 64; ++i) device.b.data().get()[i] = pseudo(i + 1000);
    launch(round ? multiply_tf32<true> : multiply_tf32<false>, {1}, 32, device.args());
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 8; ++j) {
        double expected = i * 8 + j;
        for (int k = 0; k < 8; ++k) expected += double(tf32(pseudo(i * 8 + k) + 1e-5f)) * pseudo(k * 8 + j + 1000);
        const float d = device.d.data().get()[i * 8 + j];
        if (round)
          CHECK(d == doctest::Approx(expected).epsilon(1e-6));
        else
          CHECK(std::isnan(d));
      }
  }
}

TEST_CASE("tf32 keeps 11 significant bits, ties away from zero") {
  CHECK(tf32(1) == 1);
  CHECK(tf32(1 + 0x1p-10f) == 1 + 0x1p-10f);
  CHECK(tf32(1 + 0x1p-11f) == 1 + 0x1p-10f);
  CHECK(tf32(-1 - 0x1p-11f) == -1 - 0x1p-10f);
  CHECK(tf32(1 + 0x1p-12f) == 1);
  CHECK(tf32(INFINITY) == INFINITY);
}

TEST_CASE("a fragment read before the wait of its copy is poison") {
  Device device;
  for (int i = 0; i < 256; ++i) device.a.data().get()[i] = 1;
  failure.clear();
  launch(unwaited, {1}, 32, device.args());
  CHECK(failure == "");
  // Lane l has columns 2·(l % 4): the copied half is the last two of each four lanes.
  for (int l = 0; l < 32; ++l) CHECK(std::isnan(device.d.data().get()[l]) == (l % 4 >= 2));
}

TEST_CASE("a matrix row must be aligned and in shared memory") {
  Device device;
  failure.clear();
  launch(misplaced_row, {1}, 32, device.args());
  CHECK(failure.find("thread 9") != std::string::npos);
  CHECK(failure.find("16 aligned bytes of shared memory") != std::string::npos);
}

TEST_CASE("halves round to nearest even, as those of the loader do") {
  for (uint32_t b = 0; b < 0x10000; ++b) {
    const uint16_t h = uint16_t(b);
    if ((h & 0x7fff) > 0x7c00) continue;
    CHECK(to_float(f16{h}) == f16_to_f32(h));
    CHECK(from_float<f16>(to_float(f16{h})).bits == h);
  }
  for (uint32_t i = 0; i < 200000; ++i) {
    const float x = float_of_bits(i * 21001 + 7);
    if (std::isnan(x)) continue;
    CHECK(from_float<f16>(x).bits == f32_to_f16(x));
    CHECK(from_float<bf16>(x).bits == f32_to_bf16(x));
  }
}

}  // namespace statespace::cuda
