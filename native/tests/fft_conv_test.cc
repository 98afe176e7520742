#include "ops/fft_conv.h"

#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

// y of packed sequences at the given (token, channel), in f64.
double direct(const FftConv& op, int64_t begin, int64_t t, int64_t c) {
  double y = op.D ? double(op.D.f32()[c]) * op.x.row(t)[c] : 0;
  for (int64_t s = 0; s <= t - begin && s < op.kernel[1]; ++s) y += double(op.kernel.row(c)[s]) * op.x.row(t - s)[c];
  return y;
}

}  // namespace

TEST_CASE("fftConv: the direct sum, any lengths of sequence and kernel") {
  each_backend([](const Backend& backend) {
    for (const std::vector<int32_t>& lengths : std::vector<std::vector<int32_t>>{
             {1}, {2, 0, 3}, {63, 64, 65}, {127, 1, 128, 129}, {1000, 257, 5}, {0}, {2049}})
      for (const int64_t taps : {1, 7, 100, 3000})
        for (const int64_t c : {1, 5, 16, 37}) {
          CAPTURE(lengths[0]);
          CAPTURE(taps);
          CAPTURE(c);
          std::vector<int32_t> bounds = {0};
          for (int32_t n : lengths) bounds.push_back(bounds.back() + n);
          const int64_t tokens = bounds.back();
          auto x = uniform(std::max<int64_t>(1, tokens * 2 * c), 1), kernel = uniform(c * taps, 2), D = uniform(c, 3);
          std::vector<float> y(std::max<int64_t>(1, tokens * c), NAN);
          FftConv op;
          op.x = view(x, {tokens, c});
          op.x.row_stride = 2 * c;
          op.kernel = view(kernel, {c, taps});
          if (taps != 7) op.D = view(D, {c});
          op.cu_seqlens = view(bounds);
          op.y = view(y, {tokens, c});
          run(backend, op);
          double worst = 0, largest = 0;
          for (size_t s = 0; s < lengths.size(); ++s)
            for (int64_t t = bounds[s]; t < bounds[s + 1]; ++t) {
              if (lengths[s] > 300 && (t - bounds[s]) % 61 && t + 1 != bounds[s + 1]) continue;
              for (int64_t i = 0; i < c; ++i) {
                const double expected = direct(op, bounds[s], t, i), e = std::fabs(y[t * c + i] - expected);
                worst = std::isnan(e) ? INFINITY : std::max(worst, e);
                largest = std::max(largest, std::fabs(expected));
              }
            }
          CHECK(worst <= 2e-6 * largest);
        }
  });
}

TEST_CASE("fftConv: transforms that the threads share") {
  each_backend([](const Backend& backend) {
    const int64_t length = 140000, c = 3, taps = 90000;
    auto x = uniform(length * c, 1), kernel = uniform(c * taps, 2);
    std::vector<float> y(length * c, NAN);
    FftConv op;
    op.x = view(x, {length, c});
    op.kernel = view(kernel, {c, taps});
    op.y = view(y, {length, c});
    run(backend, op);
    for (const int64_t t : {int64_t(0), int64_t(1), int64_t(65536), int64_t(99999), length - 1})
      for (int64_t i = 0; i < c; ++i) CHECK(std::fabs(y[t * c + i] - direct(op, 0, t, i)) < 1e-5 * 100);
  });
}
