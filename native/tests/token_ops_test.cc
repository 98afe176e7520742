// tokenShift, tokenShiftMix, lerp, reverse, meanPool, maxPool, squaredError: over ragged packed sequences, one of them
// empty.
#include <cstring>

#include "ops/lerp.h"
#include "ops/max_pool.h"
#include "ops/mean_pool.h"
#include "ops/reverse.h"
#include "ops/squared_error.h"
#include "ops/token_shift.h"
#include "ops/token_shift_mix.h"
#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

const std::vector<int32_t> kBounds = {0, 1, 6, 6, 20}, kSlots = {3, 0, 4, 1};
constexpr int64_t kTokens = 20, kPool = 5;

// x_{t-1}, or the state's row, for token t of sequence s.
const float* previous(const std::vector<float>& x, const std::vector<float>& state, size_t s, int64_t t, int64_t c) {
  return t == kBounds[s] ? &state[kSlots[s] * c] : &x[(t - 1) * c];
}

// The state after a call: the last token of every sequence that had one.
std::vector<float> carried(const std::vector<float>& x, std::vector<float> state, int64_t c) {
  for (size_t s = 0; s < kSlots.size(); ++s)
    if (kBounds[s] < kBounds[s + 1])
      for (int64_t i = 0; i < c; ++i) state[kSlots[s] * c + i] = x[(kBounds[s + 1] - 1) * c + i];
  return state;
}

}  // namespace

TEST_CASE("tokenShift: the previous token, the state before the first") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 7, 16, 600}) {
      auto x = uniform(kTokens * c, 1), state = uniform(kPool * c, 2);
      const auto before = state;
      auto bounds = kBounds, slots = kSlots;
      std::vector<float> y(kTokens * c, NAN), expected(y);
      for (size_t s = 0; s < slots.size(); ++s)
        for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t)
          for (int64_t i = 0; i < c; ++i) expected[t * c + i] = previous(x, before, s, t, c)[i];
      TokenShift op;
      op.x = view(x, {kTokens, c});
      op.cu_seqlens = view(bounds);
      op.slots = view(slots);
      op.state = view(state, {kPool, c});
      op.y = view(y, {kTokens, c});
      run(backend, op);
      CHECK(y == expected);
      CHECK(state == carried(x, before, c));
    }
  });
}

TEST_CASE("tokenShiftMix: every mix of a token with its predecessor") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 7, 33, 520}) {
      const int64_t mixes = 3;
      auto x = uniform(kTokens * c, 1), state = uniform(kPool * c, 2), mix = uniform(mixes * c, 3, 0, 1);
      const auto before = state;
      auto bounds = kBounds, slots = kSlots;
      std::vector<float> y(kTokens * mixes * c, NAN), expected(y);
      for (size_t s = 0; s < slots.size(); ++s)
        for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t)
          for (int64_t j = 0; j < mixes; ++j)
            for (int64_t i = 0; i < c; ++i) {
              const double now = x[t * c + i], was = previous(x, before, s, t, c)[i];
              expected[(t * mixes + j) * c + i] = float(now + (was - now) * mix[j * c + i]);
            }
      TokenShiftMix op;
      op.x = view(x, {kTokens, c});
      op.mix = view(mix, {mixes, c});
      op.cu_seqlens = view(bounds);
      op.slots = view(slots);
      op.state = view(state, {kPool, c});
      op.y = view(y, {kTokens, mixes, c});
      run(backend, op);
      CHECK(max_error(y, expected) < 3e-7);
      CHECK(state == carried(x, before, c));
    }
  });
}

TEST_CASE("lerp: by a fixed row and by a row per token, from views of a wider row") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 5, 16, 37}) {
      auto wide = uniform(kTokens * 2 * c, 1), w = uniform(kTokens * c, 2, -1, 2);
      for (const bool varies : {false, true}) {
        std::vector<float> y(kTokens * c, NAN), expected(y);
        for (int64_t t = 0; t < kTokens; ++t)
          for (int64_t i = 0; i < c; ++i) {
            const double a = wide[t * 2 * c + i], b = wide[t * 2 * c + c + i];
            expected[t * c + i] = float(a + (b - a) * w[(varies ? t * c : 0) + i]);
          }
        Lerp op;
        op.a = view(wide, {kTokens, c});
        op.b = op.a;
        op.b.data = wide.data() + c;
        op.a.row_stride = op.b.row_stride = 2 * c;
        op.w = varies ? view(w, {kTokens, c}) : view(w, {c});
        op.y = view(y, {kTokens, c});
        run(backend, op);
        CHECK(max_error(y, expected) < 5e-7);
      }
    }
  });
}

TEST_CASE("reverse: each sequence by itself, and twice is nothing") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 9, 64}) {
      auto x = uniform(kTokens * c, 1);
      auto bounds = kBounds;
      std::vector<float> y(kTokens * c, NAN), z(kTokens * c, NAN);
      Reverse op;
      op.x = view(x, {kTokens, c});
      op.cu_seqlens = view(bounds);
      op.y = view(y, {kTokens, c});
      run(backend, op);
      CHECK(y[0] == x[0]);
      for (int64_t t = 6; t < 20; ++t) CHECK(y[t * c + c - 1] == x[(25 - t) * c + c - 1]);
      op.x = view(y, {kTokens, c});
      op.y = view(z, {kTokens, c});
      run(backend, op);
      CHECK(z == x);
    }
  });
}

TEST_CASE("meanPool: a row a sequence") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 9, 64}) {
      auto x = uniform(kTokens * c, 1, 0, 2);
      auto bounds = kBounds;
      std::vector<float> y(4 * c, NAN), expected(4 * c, 0.f);
      for (size_t s = 0; s < 4; ++s)
        for (int64_t i = 0; i < c; ++i) {
          double sum = 0;
          for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t) sum += x[t * c + i];
          if (bounds[s + 1] > bounds[s]) expected[s * c + i] = float(sum / (bounds[s + 1] - bounds[s]));
        }
      MeanPool op;
      op.x = view(x, {kTokens, c});
      op.cu_seqlens = view(bounds);
      op.y = view(y, {4, c});
      std::vector<float> state(kPool * c, NAN);  // sequences begin here: nothing of it is read
      auto slots = kSlots;
      op.slots = view(slots), op.state = view(state, {kPool, c});
      run(backend, op);
      CHECK(max_error(y, expected) < 5e-7);
      for (size_t s = 0; s < 4; ++s)
        for (int64_t i = 0; i < c; ++i) CHECK(state[kSlots[s] * c + i] == y[s * c + i]);

      // The same tokens behind as many of mean 3.
      std::fill(state.begin(), state.end(), 3.f);
      std::vector<int32_t> lengths{2, 10, 7, 28};
      op.key_lengths = view(lengths);
      run(backend, op);
      for (size_t s = 0; s < 4; ++s)
        for (int64_t i = 0; i < c; ++i)
          CHECK(y[s * c + i] == doctest::Approx(s == 2 ? 3 : (3 + expected[s * c + i]) / 2));
    }
    const int64_t length = 100000;
    std::vector<float> ones(length, 0.1f), y(1, NAN);
    MeanPool op;
    op.x = view(ones, {length, 1});
    op.y = view(y, {1, 1});
    std::vector<float> state(1);
    op.state = view(state, {1, 1});
    run(backend, op);
    CHECK(std::fabs(y[0] - 0.1f) < 5e-7);
  });
}

TEST_CASE("maxPool and the gradients of both pools") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 9, 64}) {
      auto x = uniform(kTokens * c, 1, -2, 2), dy = uniform(4 * c, 2);
      auto bounds = kBounds, slots = kSlots;
      for (int64_t i = 0; i < c; ++i) x[3 * c + i] = x[2 * c + i];  // of equal ones the first counts
      std::vector<float> state(kPool * c, -INFINITY), y(4 * c, NAN), most(4 * c, -INFINITY);
      std::vector<float> dmax(kTokens * c, 0.f), dmean(kTokens * c), dx(kTokens * c, NAN);
      for (size_t s = 0; s < 4; ++s)
        for (int64_t i = 0; i < c; ++i) {
          int64_t best = bounds[s];
          for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t) {
            if (x[t * c + i] > x[best * c + i]) best = t;
            dmean[t * c + i] = dy[s * c + i] / float(bounds[s + 1] - bounds[s]);
          }
          if (bounds[s] == bounds[s + 1]) continue;
          most[s * c + i] = x[best * c + i];
          dmax[best * c + i] = dy[s * c + i];
        }
      MaxPool op;
      op.x = view(x, {kTokens, c});
      op.cu_seqlens = view(bounds);
      op.slots = view(slots);
      op.state = view(state, {kPool, c});
      op.y = view(y, {4, c});
      run(backend, op);
      CHECK(y == most);
      for (size_t s = 0; s < 4; ++s)
        for (int64_t i = 0; i < c; ++i) CHECK(state[kSlots[s] * c + i] == y[s * c + i]);
      // Larger than all that came before.
      std::fill(state.begin(), state.end(), 3.f);
      run(backend, op);
      CHECK(y == std::vector<float>(4 * c, 3.f));

      MaxPoolBackward gradient;
      gradient.x = op.x, gradient.cu_seqlens = op.cu_seqlens;
      gradient.dy = view(dy, {4, c});
      gradient.dx = view(dx, {kTokens, c});
      run(backend, gradient);
      CHECK(dx == dmax);
      MeanPoolBackward mean;
      mean.dy = gradient.dy, mean.cu_seqlens = op.cu_seqlens, mean.dx = gradient.dx;
      run(backend, mean);
      CHECK(max_error(dx, dmean) < 1e-7);
    }
  });
}

TEST_CASE("squaredError: NaN is no target") {
  each_backend([](const Backend& backend) {
    for (int64_t c : {1, 7, 40}) {
      const int64_t rows = 6;
      auto y = uniform(rows * c, 1), targets = uniform(rows * c, 2);
      targets[0] = targets[c] = NAN;
      std::vector<int32_t> bits(rows * c);
      std::memcpy(bits.data(), targets.data(), rows * c * 4);
      const double count = double(rows * c) - 2;
      double sum = 0;
      std::vector<float> dy(rows * c, NAN), expected(rows * c, 0.f), loss(1, NAN), divisor{float(2 * count)};
      for (int64_t i = 0; i < rows * c; ++i)
        if (!std::isnan(targets[i])) {
          sum += (double(y[i]) - targets[i]) * (double(y[i]) - targets[i]);
          expected[i] = float(2 * (double(y[i]) - targets[i]) / count);
        }
      SquaredError op;
      op.y = view(y, {rows, c});
      op.targets = view(bits);
      op.loss = view(loss, {1});
      op.dy = view(dy, {rows, c});
      run(backend, op);
      CHECK(loss[0] == doctest::Approx(sum / count));
      CHECK(max_error(dy, expected) < 1e-6);
      op.divisor = view(divisor, {1});
      op.dy = Tensor();
      run(backend, op);
      CHECK(loss[0] == doctest::Approx(sum / count / 2));
    }
  });
}
