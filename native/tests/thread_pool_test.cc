#include "core/thread_pool.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/context.h"
#include "core/error.h"

namespace statespace::test {

TEST_CASE("every piece of a loop runs once, by workers whose numbers are in range") {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    for (int64_t count : {0, 1, 2, 63, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      std::atomic<int> outside{0};
      pool.parallel_for(count, [&](int64_t i, int worker) {
        ++runs[static_cast<size_t>(i)];
        if (worker < 0 || worker >= pool.threads()) ++outside;
      });
      int64_t once = 0;
      for (auto& r : runs) once += r == 1;
      CHECK(once == count);
      CHECK(outside == 0);
    }
  }
}

TEST_CASE("pieces dealt out in stretches run once each; after one that throws none begins") {
  for (int threads : {1, 2, 3, 7}) {
    ThreadPool pool(threads);
    Scratch scratch;
    const Context cx{pool, scratch};
    for (int64_t count : {0, 1, 2, 5, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(count));
      cx.parallel_stretches(count, [&](int64_t i, int) { ++runs[size_t(i)]; });
      CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& r) { return r == 1; }));
    }
    std::atomic<bool> thrown{false};
    std::atomic<int> after{0};
    CHECK_THROWS_AS(cx.parallel_stretches(1000,
                                          [&](int64_t i, int) {
                                            if (thrown) ++after;
                                            if (i % 100 == 3) {
                                              thrown = true;
                                              throw Error(Code::kArgument, "piece");
                                            }
                                          }),
                    Error);
    CHECK(after < 900);  // others go on until they hear of it
    std::atomic<bool> stop{true};
    const Context stopped{pool, scratch, TileUnit::none, false, &stop};
    CHECK_THROWS_AS(stopped.parallel_stretches(10, [](int64_t, int) {}), Error);
  }
}

TEST_CASE("what pieces wrote is there when the loop returns") {
  ThreadPool pool(4);
  std::vector<int64_t> values(5000);  // plain memory: TSan sees a missing ordering
  for (int round = 0; round < 50; ++round) {
    pool.parallel_for(int64_t(values.size()), [&](int64_t i, int) { values[size_t(i)] += i; });
    int64_t sum = 0;
    for (int64_t v : values) sum += v;
    CHECK(sum == (round + 1) * int64_t(values.size()) * (int64_t(values.size()) - 1) / 2);
  }
}

TEST_CASE("loops from several threads share one pool, loops inside of loops too") {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int c = 0; c < 5; ++c)
    callers.emplace_back([&] {
      for (int round = 0; round < 40; ++round)
        pool.parallel_for(20, [&](int64_t, int) { pool.parallel_for(5, [&](int64_t, int) { ++sum; }); });
    });
  for (auto& t : callers) t.join();
  CHECK(sum == 5 * 40 * 20 * 5);
}

TEST_CASE("the pool is resized while others use it") {
  ThreadPool pool(2);
  std::atomic<bool> done{false};
  std::atomic<int64_t> sum{0};
  std::thread user([&] {
    while (!done) pool.parallel_for(16, [&](int64_t, int) { ++sum; });
  });
  for (int threads : {4, 1, 3, 2, 5, 1, 2}) pool.resize(threads);
  done = true;
  user.join();
  CHECK(sum % 16 == 0);
}

TEST_CASE("the first exception of any piece reaches the caller, and the pool goes on") {
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    for (int64_t bad : {0, 1, 37, 99}) {
      std::atomic<int> runs{0};
      const auto loop = [&] {
        pool.parallel_for(100, [&](int64_t i, int) {
          if (i == bad) throw Error(Code::kOutOfMemory, "no memory for piece " + std::to_string(i));
          ++runs;
        });
      };
      CHECK_THROWS_WITH_AS(loop(), ("no memory for piece " + std::to_string(bad)).c_str(), Error);
      CHECK(runs < 100);
    }
    std::atomic<int> runs{0};
    pool.parallel_for(100, [&](int64_t, int) { ++runs; });
    CHECK(runs == 100);
  }
}

TEST_CASE("a loop ends early when it is told to stop") {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    std::atomic<bool> stop{false};
    std::atomic<int> runs{0};
    const auto loop = [&] {
      pool.parallel_for(
          1000,
          [&](int64_t, int) {
            if (++runs >= 10) stop = true;
          },
          &stop);
    };
    CHECK_THROWS_AS(loop(), Error);
    CHECK(runs < 10 + threads);
  }
}

TEST_CASE("an idle pool sleeps and wakes again") {
  ThreadPool pool(2);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    std::atomic<int> runs{0};
    pool.parallel_for(8, [&](int64_t, int) { ++runs; });
    CHECK(runs == 8);
  }
}

}  // namespace statespace::test
