// A long convolution that is fed in pieces gives what it gives whole, whatever the pieces, pages and company.
#include "ops/long_conv.h"

#include "ops/implicit_filter.h"
#include "tests/support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

constexpr int64_t kPageSize = 64;

// A session's history: pages out of order, in a pool that begins as NaN.
struct Session {
  std::vector<int32_t> pages;
  int64_t position = 0;
};

struct Pool {
  explicit Pool(int64_t pages, int64_t channels) : channels(channels), memory(pages * kPageSize * channels, NAN) {
    for (int64_t p = 0; p < pages; ++p) free.push_back(int32_t(p * 7 % pages));
  }
  void extend(Session& s, int64_t end) {
    while (int64_t(s.pages.size()) * kPageSize < end) s.pages.push_back(free.back()), free.pop_back();
  }
  int64_t channels;
  std::vector<float> memory;
  std::vector<int32_t> free;
};

// Feeds each session its next rows in one call.
void feed(const Backend& backend, Pool& pool, LongConv op, std::vector<Session*> sessions,
          const std::vector<int64_t>& lengths) {
  std::vector<int32_t> bounds{0}, positions, table;
  size_t widest = 0;
  for (size_t s = 0; s < sessions.size(); ++s) {
    pool.extend(*sessions[s], sessions[s]->position + lengths[s]);
    for (int64_t i = 0; i < lengths[s]; ++i) positions.push_back(int32_t(sessions[s]->position++));
    bounds.push_back(int32_t(positions.size()));
    widest = std::max(widest, sessions[s]->pages.size());
  }
  for (Session* s : sessions) {
    auto row = s->pages;
    row.resize(widest, -1);
    table.insert(table.end(), row.begin(), row.end());
  }
  op.cu_seqlens = view(bounds), op.positions = view(positions), op.page_table = view(table);
  op.page_table.rank = 2, op.page_table.shape[0] = int64_t(sessions.size());
  op.page_table.shape[1] = op.page_table.row_stride = int64_t(widest);
  op.history =
      view(pool.memory, {int64_t(pool.memory.size()) / (kPageSize * pool.channels), 1, kPageSize, pool.channels});
  run(backend, op);
}

double expected(const std::vector<float>& x, const std::vector<float>& kernel, int64_t taps, float D, int64_t channels,
                int64_t t, int64_t c) {
  double y = double(D) * x[t * channels + c];
  for (int64_t s = 0; s <= t && s < taps; ++s) y += double(kernel[s * channels + c]) * x[(t - s) * channels + c];
  return y;
}

}  // namespace

TEST_CASE("longConv: any chunks of two sequences side by side are the direct sum") {
  each_backend([](const Backend& backend) {
    const std::vector<std::vector<int64_t>> cuts = {
        {700}, {1, 1, 1, 40, 1, 656}, {33, 32, 31, 64, 65, 1, 474}, {300, 5, 395}, {64, 636}};
    for (const int64_t channels : {1, 5, 37})
      for (const int64_t taps : {700, 150})
        for (const auto& cut : cuts) {
          CAPTURE(channels);
          CAPTURE(taps);
          CAPTURE(cut.size());
          const int64_t length = 700, other = 90;
          auto x = uniform(length * channels, 1), noise = uniform(other * channels, 9);
          auto kernel = uniform(taps * channels, 2), D = uniform(channels, 3);
          Pool pool(16, channels);
          Session first, second;
          std::vector<float> y(length * channels, NAN);
          for (int64_t n : cut) {
            const int64_t at = first.position, beside = std::min<int64_t>(other - second.position, n % 37);
            // The other sequence's rows lie in front.
            std::vector<float> rows(noise.begin() + second.position * channels,
                                    noise.begin() + (second.position + beside) * channels);
            rows.insert(rows.end(), x.begin() + at * channels, x.begin() + (at + n) * channels);
            std::vector<float> out(rows.size(), NAN);
            LongConv op;
            op.x = view(rows, {beside + n, channels});
            op.kernel = view(kernel, {taps, channels});
            op.D = view(D, {channels});
            op.y = view(out, {beside + n, channels});
            feed(backend, pool, op, {&second, &first}, {beside, n});
            std::copy(out.begin() + beside * channels, out.end(), y.begin() + at * channels);
          }
          double worst = 0, largest = 0;
          for (int64_t t = 0; t < length; t += t + 17 < length ? 17 : 1)
            for (int64_t c = 0; c < channels; ++c) {
              const double want = expected(x, kernel, taps, D[c], channels, t, c),
                           e = std::fabs(y[t * channels + c] - want);
              worst = std::isnan(e) ? INFINITY : std::max(worst, e), largest = std::max(largest, std::fabs(want));
            }
          CHECK(worst <= 3e-6 * largest);
        }
  });
}

TEST_CASE("implicitFilter: the network of the position, in f64") {
  each_backend([](const Backend& backend) {
    for (const int64_t width : {1, 8, 19})
      for (const int64_t inner : {0, 1, 2}) {
        const int64_t length = 41, emb = 5, channels = 21;
        auto z = uniform(length * emb, 1), t = uniform(length, 2, 0, 1), deltas = uniform(channels, 3, -9, 9);
        auto in = uniform(width * emb, 4), in_bias = uniform(width, 5), out = uniform(channels * width, 6);
        auto hidden = uniform(inner * width * width, 7), hidden_bias = uniform(inner * width, 8);
        auto freq = uniform(width, 9, 1, 10);
        std::vector<float> kernel(length * channels, NAN);
        ImplicitFilter op;
        op.z = view(z, {length, emb}), op.t = view(t, {length}), op.deltas = view(deltas, {channels});
        op.in_weight = view(in, {width, emb}), op.in_bias = view(in_bias, {width}), op.freq = view(freq, {width});
        if (inner > 0) {
          op.hidden_weight = view(hidden, {inner, width, width});
          op.hidden_bias = view(hidden_bias, {inner, width});
        }
        op.out_weight = view(out, {channels, width});
        op.kernel = view(kernel, {length, channels});
        op.shift = 0.05f;
        run(backend, op);
        for (int64_t l = 0; l < length; ++l) {
          std::vector<double> h(width), next(width);
          for (int64_t j = 0; j < width; ++j) {
            double sum = in_bias[j];
            for (int64_t i = 0; i < emb; ++i) sum += double(in[j * emb + i]) * z[l * emb + i];
            h[j] = std::sin(freq[j] * sum);
          }
          for (int64_t layer = 0; layer < inner; ++layer, h = next)
            for (int64_t j = 0; j < width; ++j) {
              double sum = hidden_bias[layer * width + j];
              for (int64_t i = 0; i < width; ++i) sum += double(hidden[(layer * width + j) * width + i]) * h[i];
              next[j] = std::sin(freq[j] * sum);
            }
          for (int64_t c = 0; c < channels; ++c) {
            double sum = 0;
            for (int64_t j = 0; j < width; ++j) sum += double(out[c * width + j]) * h[j];
            CHECK(kernel[l * channels + c] ==
                  doctest::Approx(sum * (std::exp(-t[l] * std::fabs(double(deltas[c]))) + 0.05f)).epsilon(2e-4));
          }
        }
      }
  });
}
