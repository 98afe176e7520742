// The emulated device catches what it is there for: kernels broken on purpose, each beside its correct form.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>

#include <cstdlib>
#include <vector>

#include "device.h"
#include "runtime.h"

namespace statespace::cuda {

std::string failure;  // of the last launch that failed

namespace {

enum class Fault {
  none,
  no_barrier,          // between a store to shared memory and another thread's load
  no_barrier_in_loop,  // between that load and the next store
  no_wait,             // for an asynchronous copy
  stray_store,         // to device memory, one past the tensor
  stray_shared_store,  // one past struct Shared
  early_return,        // of a lane before a shuffle
  early_exit,          // of a warp before a barrier
  divergent_shuffle,   // lanes in different calls
  misaligned_copy,
  forgotten_copy,  // never waited for
};

constexpr int kThreads = 64, kRounds = 3;

struct Args {
  global<const float> x;  // (kRounds, kThreads)
  global<float> y;        // (kRounds, kThreads)
};

struct Shared {
  float copied[kThreads + 4];
};

// y[r][i] = sum over the warp of x[r][kThreads - 1 - i], by way of everything that can be forgotten.
template <Fault fault>
__global__ void reversed_sums(Args a) {
  auto& s = shared<Shared>();
  const int i = int(threadIdx.x);
  for (int r = 0; r < kRounds; ++r) {
    const int shift = fault == Fault::misaligned_copy ? 1 : 0;
    if (i % 4 == 0) copy_async<16>(s.copied + i + shift, at(a.x, r * kThreads + i, 4));
    copy_async_commit();
    if (fault != Fault::no_wait && !(fault == Fault::forgotten_copy && r == kRounds - 1)) copy_async_wait<0>();
    if (fault == Fault::stray_shared_store) (s.copied + kThreads + 4)[i] = 1;
    if (fault != Fault::no_barrier) barrier();
    float v = s.copied[kThreads - 1 - i];
    if (fault == Fault::early_return && i == 5) return;
    if (fault == Fault::early_exit && warp() == 1) return;
    if (fault == Fault::divergent_shuffle && lane() < 16)
      v += shuffle_xor(v, 16);
    else
      v += shuffle_xor(v, 16);
    for (int mask = 8; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
    a.y[r * kThreads + i + (fault == Fault::stray_store && r == kRounds - 1 ? 1 : 0)] = v;
    if (fault != Fault::no_barrier_in_loop) barrier();
  }
}

constexpr const char* kOrders[] = {"forward", "reverse", "1", "2", "3"};

struct Outcome {
  std::vector<float> y;
  std::string failure;
};

Outcome run_in(const char* order, void (*kernel)(Args)) {
  setenv("STATESPACE_EMULATED_ORDER", order, 1);
  const Scratch<float> x(kRounds * kThreads), y(kRounds * kThreads);
  for (int i = 0; i < kRounds * kThreads; ++i) x.data().get()[i] = float(i % 37);
  failure.clear();
  launch(kernel, {2}, kThreads, Args{x.data(), y.data()});
  unsetenv("STATESPACE_EMULATED_ORDER");
  return {std::vector<float>(y.data().get(), y.data().get() + kRounds * kThreads), failure};
}

std::vector<float> expected() {
  std::vector<float> y(kRounds * kThreads);
  for (int r = 0; r < kRounds; ++r)
    for (int i = 0; i < kThreads; ++i)
      for (int j = 0; j < 32; ++j) y[r * kThreads + i] += float((r * kThreads + kThreads - 1 - i / 32 * 32 - j) % 37);
  return y;
}

// How many orders give an error, and how many a wrong result.
struct Caught {
  int errors = 0, wrong = 0;
  std::string first;
};

Caught count(void (*kernel)(Args)) {
  Caught c;
  for (const char* order : kOrders) {
    const Outcome o = run_in(order, kernel);
    if (!o.failure.empty()) {
      ++c.errors;
      if (c.first.empty()) c.first = o.failure;
    } else if (o.y != expected()) {
      ++c.wrong;
    }
  }
  return c;
}

bool contains(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

constexpr int kAll = int(std::size(kOrders));

}  // namespace

void fail_launch(const std::string& why) {
  if (failure.empty()) failure = why;
}

TEST_CASE("the correct kernel gives the same bits in every order") {
  for (const char* order : kOrders) {
    const Outcome o = run_in(order, reversed_sums<Fault::none>);
    CHECK(o.failure == "");
    CHECK(o.y == expected());
  }
}

TEST_CASE("a missing barrier gives a wrong result in some order") {
  CHECK(count(reversed_sums<Fault::no_barrier>).wrong > 0);
  CHECK(count(reversed_sums<Fault::no_barrier_in_loop>).wrong > 0);
}

TEST_CASE("a missing wait reads poison in every order, and is an error when the thread ends") {
  const Caught c = count(reversed_sums<Fault::no_wait>);
  CHECK(c.errors == kAll);
  CHECK(contains(c.first, "asynchronous copy that it never waited for"));
  CHECK(count(reversed_sums<Fault::forgotten_copy>).errors == kAll);
}

TEST_CASE("a store outside a tensor or outside shared memory is an error") {
  const Caught c = count(reversed_sums<Fault::stray_store>);
  CHECK(c.errors == kAll);
  CHECK(contains(c.first, "touches element 192 of a tensor of 192"));
  const Caught s = count(reversed_sums<Fault::stray_shared_store>);
  CHECK(s.errors == kAll);
  CHECK(contains(s.first, "outside the block's shared memory"));
}

TEST_CASE("lanes that do not reach a collective together are an error, never a hang") {
  const Caught lane = count(reversed_sums<Fault::early_return>);
  CHECK(lane.errors == kAll);
  CHECK(contains(lane.first, "thread 5 has ended"));
  const Caught warp = count(reversed_sums<Fault::early_exit>);
  CHECK(warp.errors == kAll);
  CHECK(contains(warp.first, "waits in barrier at emulator_test.cc"));
  const Caught parted = count(reversed_sums<Fault::divergent_shuffle>);
  CHECK(parted.errors == kAll);
  CHECK(contains(parted.first, "a warp's lanes part"));
}

TEST_CASE("a misaligned asynchronous copy is an error") {
  CHECK(count(reversed_sums<Fault::misaligned_copy>).errors == kAll);
}

namespace {

__global__ void touch(Args a) {
  if (threadIdx.x == 0) a.y[0] = a.x[0];
}

}  // namespace

TEST_CASE("a tensor that is not in device memory is refused before the launch") {
  float host = 0;
  Tensor t;
  t.data = &host, t.rank = 1, t.shape[0] = 1, t.row_stride = 1;
  CHECK_THROWS_AS(global_data<float>(t), std::string);
}

TEST_CASE("an impossible launch is an error") {
  failure.clear();
  launch(touch, {1}, 33, Args{});
  CHECK(contains(failure, "a block of 33 threads"));
  failure.clear();
  launch(touch, {1}, 32, Args{});
  CHECK(contains(failure, "touches element"));
}

}  // namespace statespace::cuda
