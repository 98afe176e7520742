// Passes over rows of logits by every instruction set of this machine, and what the sampler makes of them.
#include "core/logits.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "backend/cpu_tables.h"
#include "program/sampler.h"
#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// fn(loops) for those of every instruction set that this machine has.
template <class Fn>
void each_loops(Fn&& fn) {
  int count = 0;
  const char* const* names = available_cpu_backends(&count);
  const auto has = [&](const std::string& name) { return std::find(names, names + count, name) != names + count; };
#define CALL(isa) \
  if (has(#isa)) fn(isa::logit_loops());
  STATESPACE_CPU_ISAS(CALL)
#undef CALL
}

std::vector<float> some_logits(int64_t n, uint32_t seed) {
  auto x = uniform(n, seed);
  for (int64_t i = 0; i < n; ++i) {
    if (i % 11 == 3) x[i] = NAN;
    if (i % 13 == 5) x[i] = -kInfinity;
    if (i % 7 == 2) x[i] = x[i / 2];  // equals
    x[i] *= 9;
  }
  return x;
}

float highest_of(const float* x, int64_t n) {
  float most = -kInfinity;
  for (int64_t i = 0; i < n; ++i) most = x[i] > most ? x[i] : most;
  return most;
}

}  // namespace

TEST_CASE("logits: maxima of blocks, passing over what is no number") {
  each_loops([](const LogitLoops& loops) {
    for (int64_t n : {1, 15, 16, 64, 65, 200, 1001})
      for (int64_t block : {16, 64, 100}) {
        CAPTURE(n);
        CAPTURE(block);
        const auto x = some_logits(n, 1);
        std::vector<float> maxima((n + block - 1) / block);
        loops.maxima(x.data(), n, block, maxima.data());
        for (int64_t b = 0; b < int64_t(maxima.size()); ++b)
          CHECK(maxima[b] == highest_of(&x[b * block], std::min(block, n - b * block)));
        CHECK(loops.highest(x.data(), n) == highest_of(x.data(), n));
      }
  });
}

TEST_CASE("logits: buckets of keys") {
  each_loops([](const LogitLoops& loops) {
    for (int64_t n : {1, 16, 31, 64, 500, 1003}) {
      CAPTURE(n);
      auto keys = uniform(n, 2);
      for (int64_t i = 0; i < n; ++i) keys[i] = i % 9 == 4 ? kInfinity : i % 5 == 1 ? 0 : std::fabs(keys[i]) * 80;
      float far = 0;
      for (float k : keys) far = k < 64 ? std::max(far, k) : far;
      CHECK(loops.farthest(keys.data(), n, 64) == far);
      const float scale = far > 0 ? float(kLogitBuckets - 1) / far : 0;
      std::vector<int16_t> buckets(n + 1, -1);
      loops.buckets(keys.data(), n, scale, 64, buckets.data());
      for (int64_t i = 0; i < n; ++i)
        CHECK(buckets[i] ==
              (keys[i] < 64 ? std::min(int(keys[i] * scale), int(kLogitBuckets) - 1) : kLogitBuckets - 1));
      CHECK(buckets[n] == -1);
    }
  });
}

TEST_CASE("sampler: the likeliest of a row, in order, whatever is no number and however many are wanted") {
  for (int64_t n : {3, 100, 5000})
    for (int64_t k : {1, 2, 40, 700, 6000}) {
      CAPTURE(n);
      CAPTURE(k);
      const auto x = some_logits(n, 3);
      SamplerOptions options;
      options.vocab = n, options.alternatives = k;
      const Chosen chosen = Sampler(options).choose(x.data(), n, {}, nullptr, 0, nullptr);
      std::vector<int32_t> order(n);
      std::iota(order.begin(), order.end(), 0);
      const auto value = [&](int32_t i) { return std::isnan(x[i]) ? -kInfinity : x[i]; };
      std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) { return value(a) > value(b); });
      order.resize(std::min(n, k));
      std::vector<int32_t> ids;
      for (const auto& [id, logprob] : chosen.alternatives) ids.push_back(id);
      CHECK(ids == order);
      CHECK(chosen.token == order[0]);
    }
}

TEST_CASE("sampler: a mask that leaves fewer than top-k of a row") {
  const int64_t n = 5000;
  const auto x = some_logits(n, 4);
  std::vector<uint32_t> mask((n + 31) / 32);
  for (int id : {40, 41, 4990}) mask[id / 32] |= 1u << id % 32;
  for (int64_t k : {2, 40, 900}) {
    SamplerOptions options;
    options.vocab = n, options.top_k = k, options.temperature = 50;
    Sampler sampler(options);
    std::vector<int> drawn(n);
    for (int i = 0; i < 200; ++i) ++drawn[sampler.choose(x.data(), n, {}, nullptr, 0, mask.data()).token];
    const int all = drawn[40] + drawn[41] + drawn[4990];
    CHECK(all == 200);
    CHECK((drawn[40] > 0) + (drawn[41] > 0) + (drawn[4990] > 0) == std::min<int64_t>(3, k));
  }
}
