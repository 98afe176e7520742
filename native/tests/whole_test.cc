// s4Conv and denseConv, the forms over whole sequences: equal to s4Recurrent, and to denseScan between its products.
#include "ops/dense_conv.h"
#include "ops/dense_scan.h"
#include "ops/s4_conv.h"
#include "ops/s4_recurrent.h"
#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

TEST_CASE("s4Conv: the recurrence, of packed sequences") {
  each_backend([](const Backend& backend) {
    for (const int64_t channels : {1, 21})
      for (const int32_t method : {0, 1}) {
        const int64_t n = 4, tokens = 505;
        std::vector<int32_t> bounds{0, 1, 1, 205, 505};
        auto A = uniform(channels * n * 2, 1, -2, -0.1f), B = uniform(channels * n * 2, 2),
             C = uniform(channels * n * 2, 3);
        auto D = uniform(channels, 4), log_dt = uniform(channels, 5, -4, -1), x = uniform(tokens * channels, 6);
        std::vector<float> whole(tokens * channels, NAN), steps(tokens * channels, NAN), state(4 * channels * n * 2, 0);
        S4Recurrent stepwise;
        stepwise.x = view(x, {tokens, channels}), stepwise.A = view(A, {channels, n, 2});
        stepwise.B = view(B, {channels, n, 2}), stepwise.C = view(C, {channels, n, 2}),
        stepwise.D = view(D, {channels});
        stepwise.log_dt = view(log_dt, {channels});
        stepwise.cu_seqlens = view(bounds), stepwise.state = view(state, {4, channels, n, 2});
        stepwise.y = view(steps, {tokens, channels}), stepwise.method = method;
        run(backend, stepwise);
        S4Conv conv;
        conv.x = stepwise.x, conv.A = stepwise.A, conv.B = stepwise.B, conv.C = stepwise.C, conv.D = stepwise.D;
        conv.log_dt = stepwise.log_dt, conv.cu_seqlens = stepwise.cu_seqlens, conv.method = method;
        conv.y = view(whole, {tokens, channels});
        run(backend, conv);
        CHECK(relative_error(whole, steps) < 1e-5);
      }
  });
}

TEST_CASE("denseScan: its formula in f64, and continued by its state; denseConv: the same between products") {
  each_backend([](const Backend& backend) {
    for (const int64_t n : {1, 7, 16, 70}) {
      const int64_t tokens = 137, inputs = 3, outputs = 11;
      CAPTURE(n);
      std::vector<int32_t> bounds{0, 100, 100, 137}, slots{2, 3, 0};
      auto A = uniform(n * n, 1, -0.9f / float(n), 0.9f / float(n)), B = uniform(n * inputs, 2),
           C = uniform(outputs * n, 3);
      auto x = uniform(tokens * inputs, 4);
      std::vector<float> v(tokens * n), h(tokens * n, NAN), state(4 * n, 0), again(tokens * n, NAN);
      std::vector<float> y(tokens * outputs), whole(tokens * outputs, NAN);
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t i = 0; i < n; ++i) {
          double sum = 0;
          for (int64_t j = 0; j < inputs; ++j) sum += double(B[i * inputs + j]) * x[t * inputs + j];
          v[t * n + i] = float(sum);
        }
      DenseScan op;
      op.v = view(v, {tokens, n}), op.A = view(A, {n, n}), op.cu_seqlens = view(bounds), op.slots = view(slots);
      op.state = view(state, {4, n}), op.h = view(h, {tokens, n});
      run(backend, op);
      std::vector<double> last(n), next(n);
      double worst = 0;
      for (int64_t t = 0; t < tokens; ++t) {
        if (t == 0 || t == 100) std::fill(last.begin(), last.end(), 0.0);
        for (int64_t i = 0; i < n; ++i) {
          next[i] = v[t * n + i];
          for (int64_t k = 0; k < n; ++k) next[i] += double(A[i * n + k]) * last[k];
          worst = std::max(worst, std::fabs(next[i] - h[t * n + i]));
        }
        last = next;
        for (int64_t o = 0; o < outputs; ++o) {
          double sum = 0;
          for (int64_t i = 0; i < n; ++i) sum += double(C[o * n + i]) * last[i];
          y[t * outputs + o] = float(sum);
        }
      }
      CHECK(worst < 1e-5);
      for (int64_t i = 0; i < n; ++i) {
        CHECK(state[2 * n + i] == h[99 * n + i]);
        CHECK(state[i] == h[136 * n + i]);
      }

      // In two calls.
      std::fill(state.begin(), state.end(), 0.f);
      std::vector<int32_t> slot{1};
      op.slots = view(slot), op.cu_seqlens = Tensor();
      for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 31}, {31, 100}}) {
        op.v = view(v, {end - begin, n}), op.h = view(again, {end - begin, n});
        op.v.data = v.data() + begin * n, op.h.data = again.data() + begin * n;
        run(backend, op);
      }
      for (int64_t i = 0; i < 100 * n; ++i) CHECK(std::fabs(again[i] - h[i]) < 1e-6);

      DenseConv conv;
      conv.x = view(x, {tokens, inputs}), conv.A = view(A, {n, n}), conv.B = view(B, {n, inputs});
      conv.C = view(C, {outputs, n}), conv.cu_seqlens = view(bounds), conv.y = view(whole, {tokens, outputs});
      run(backend, conv);
      CHECK(relative_error(whole, y) < 1e-5);
    }
  });
}
