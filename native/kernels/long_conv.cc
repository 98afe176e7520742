#include "ops/long_conv.h"

#include <algorithm>

#include "backend/kernels.h"
#include "kernels/fft.h"
#include "kernels/reach.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Up to this many new tokens the sum is taken term by term: the transforms cost more.
constexpr int64_t kDirect = 32;
// Vectors of channels that a task of the direct sum reads side by side, so that it reads long stretches of every row:
// as many as leave its sums of all new tokens in the first-level cache.
constexpr int64_t kMostVectors = 64, kLeastVectors = 4;

// One sequence of a call: `length` new tokens behind `past` earlier ones, whose inputs lie in pages.
struct Past {
  Past(const LongConv& op, const Sequences& sequences, int64_t s)
      : op(op),
        begin(sequences.begin(s)),
        length(sequences.end(s) - begin),
        past(length == 0    ? 0
             : op.positions ? op.positions.i32()[begin]
                            : 0),
        page_size(op.history[2]),
        table(op.page_table ? op.page_table.i32() + s * op.page_table.row_stride : nullptr) {}

  float* row(int64_t position) const {
    const int64_t page = table ? table[position / page_size] : position / page_size;
    return op.history.row(page) + position % page_size * op.history[3];
  }
  int64_t end() const { return past + length; }
  // Writes channels [first, last) of the new inputs.
  void append(int64_t first, int64_t last) const {
    for (int64_t t = 0; t < length; ++t)
      std::memcpy(row(past + t) + first, op.x.row(begin + t) + first, size_t(last - first) * sizeof(float));
  }

  const LongConv& op;
  const int64_t begin, length, past, page_size;
  const int32_t* table;
};

// part += the terms of inputs [from, to), which lie behind each other at x, for one new token: four rows at a time,
// each fetched while the four before are summed, as no stream is recognised from one row's page to the next.
void add_terms(const Past& p, int64_t first, int64_t last, int64_t from, int64_t to, const float* x, float* part) {
  const LongConv& op = p.op;
  const int64_t stride = op.history[3], lag = op.kernel.row_stride;
  const auto rows = [&]<int kCount>(int64_t q) {
    const float *inputs = x + (q - from) * stride, *k = op.kernel.row(p.past - q) + first;
    const bool more = q + 2 * kCount <= to;
    auto channels = [&](int64_t c, auto... m) {
      F sum = load(part + c);
#pragma GCC unroll 4
      for (int i = 0; i < kCount; ++i) {
        sum = fma(load(k - i * lag + c, m...), load(inputs + i * stride + c, m...), sum);
        if (more) prefetch(k - (i + kCount) * lag + c), prefetch(inputs + (i + kCount) * stride + c);
      }
      store(part + c, sum);
    };
    int64_t c = 0;
    for (; c + kLanes <= last - first; c += kLanes) channels(c);
    if (c < last - first) channels(c, int(last - first - c));
  };
  int64_t q = from;
  for (; q + 4 <= to; q += 4) rows.template operator()<4>(q);
  for (; q < to; ++q) rows.template operator()<1>(q);
}

// y_t of channels [first, last), `width` vectors at most; a page's terms are summed before they join the rest, which
// keeps the rounding of long sums small. total and part hold `width` vectors for every new token.
void direct(const Past& p, int64_t first, int64_t last, int64_t width, float* total, float* part, const Context& cx) {
  const LongConv& op = p.op;
  const int64_t taps = op.kernel[0], vectors = ceil_div(last - first, kLanes), row = width * kLanes;
  const auto at = [&](float* sums, int64_t t, int64_t v) { return sums + t * row + v * kLanes; };
  std::memset(total, 0, size_t(p.length * row) * sizeof(float));
  for (int64_t page = 0; page < p.end(); page += p.page_size) {
    cx.check_stop();
    std::memset(part, 0, size_t(p.length * row) * sizeof(float));
    const int64_t stop = page + p.page_size < p.end() ? page + p.page_size : p.end();
    const float* x = p.row(page) + first;
    if (p.length == 1) {
      const int64_t seen = p.past - taps + 1, from = std::max(page, seen);
      if (from < stop) add_terms(p, first, last, from, stop, x + (from - page) * op.history[3], part);
    } else {
      for (int64_t q = page; q < stop; ++q, x += op.history[3])
        for (int64_t t = q > p.past ? q - p.past : 0; t < p.length; ++t) {
          const int64_t lag = p.past + t - q;
          if (lag >= taps) break;
          const float* k = op.kernel.row(lag) + first;
          for (int64_t v = 0; v < vectors; ++v) {
            const int m = lanes_of(last - first - v * kLanes);
            store(at(part, t, v), fma(load(k + v * kLanes, m), load(x + v * kLanes, m), load(at(part, t, v))));
          }
        }
    }
    for (int64_t t = 0; t < p.length; ++t)
      for (int64_t v = 0; v < vectors; ++v) store(at(total, t, v), load(at(total, t, v)) + load(at(part, t, v)));
  }
  for (int64_t t = 0; t < p.length; ++t)
    for (int64_t v = 0; v < vectors; ++v) {
      const int64_t c = first + v * kLanes;
      const int m = lanes_of(last - c);
      const F skip = op.D ? load(op.D.f32() + c, m) : zero();
      store(op.y.row(p.begin + t) + c, fma(skip, load(op.x.row(p.begin + t) + c, m), load(at(total, t, v))), m);
    }
}

// kLanes channels of one sequence through transforms of m ≥ length points. The inputs are cut into blocks of m that end
// where the new tokens begin; block b meets the taps of lags (b-1)m .. (b+1)m. Modulo t^m - i (see fft_conv.cc) the
// taps of the lower half are real parts, those of the upper one imaginary, and the outputs sought are the imaginary
// part. Products are summed over the blocks before the one inverse transform.
class Blocks {
 public:
  Blocks(const Past& p, const FftTables& tables, int64_t m, int64_t first, float* scratch)
      : p(p),
        op(p.op),
        tables(tables),
        m(m),
        first(first),
        lanes(lanes_of(p.op.x[1] - first)),
        signal(scratch),
        taps(scratch + m * kPoint),
        sum(scratch + 2 * m * kPoint) {}
  static int64_t scratch_floats(int64_t m) { return 3 * m * kPoint; }

  void run(const Context& cx) const {
    std::memset(sum, 0, size_t(m * kPoint) * sizeof(float));
    bool all = true;
    F last = set(-HUGE_VALF);  // the last input that is not finite, from the new tokens on
    for (int64_t b = 0; (b - 1) * m < p.past; ++b) {
      if ((b - 1) * m >= op.kernel[0]) break;
      cx.check_stop();
      const bool inputs = load_inputs(p.past - b * m), weights = load_taps(b * m);
      if (!inputs) last = max(last, load_finite_inputs(p.past - b * m));
      if (!weights) load_taps(b * m, false);
      all = all && inputs && weights;
      fft(tables, signal, m), fft(tables, taps, m);
      for (int64_t j = 0; j < m * kPoint; j += kPoint)
        store_point(sum + j, load_point(sum + j) + load_point(signal + j) * load_point(taps + j));
    }
    inverse_fft(tables, sum, m);
    const F skip = op.D ? load(op.D.f32() + first, lanes) : zero(), scale = set(1 / float(m));
    Reach reach(op.kernel[0], set(float(op.kernel[0] + 1)) + last, all ? zero() : first_tap());
    for (int64_t t = 0; t < p.length; ++t) {
      const F x = load(op.x.row(p.begin + t) + first, lanes);
      F y = times_conjugate(load_point(sum + t * kPoint), tables.twist(t, m)).im * scale;
      if (!all) y = reach(p.past + t, x, y);
      store(op.y.row(p.begin + t) + first, fma(skip, x, y), lanes);
    }
  }

 private:
  F input(int64_t q) const { return q >= 0 && q < p.end() ? load(p.row(q) + first, lanes) : zero(); }
  void put_input(int64_t j, F x) const {
    const float* w = tables.twist(j, m);
    store_point(signal + j * kPoint, {x * set(w[0]), x * set(w[1])});
  }
  // signal[j] = x_{from+j} ω^j. Whether all are finite.
  bool load_inputs(int64_t from) const {
    F seen = zero();
    for (int64_t j = 0; j < m; ++j) {
      const F x = input(from + j);
      seen = fma(x, zero(), seen);
      put_input(j, x);
    }
    return statespace::STATESPACE_ISA::sum(seen) == 0;
  }
  // The finite ones; where the last other one lies before the new tokens, -∞ without one.
  F load_finite_inputs(int64_t from) const {
    F last = set(-HUGE_VALF);
    for (int64_t j = 0; j < m; ++j) {
      const F x = input(from + j);
      if (from + j < p.past) last = select(is_finite(x), last, set(float(from + j - p.past)));
      put_input(j, finite_or_zero(x));
    }
    return last;
  }
  // taps[j] = (kernel[lag-m+j] + i kernel[lag+j]) ω^j. Whether all were finite; without `every`, only those are loaded.
  bool load_taps(int64_t lag, bool every = true) const {
    F seen = zero();
    for (int64_t j = 0; j < m; ++j) {
      F low = tap(lag - m + j), high = tap(lag + j);
      if (!every) low = finite_or_zero(low), high = finite_or_zero(high);
      seen = fma(low, zero(), fma(high, zero(), seen));
      store_point(taps + j * kPoint, times({low, high}, tables.twist(j, m)));
    }
    return statespace::STATESPACE_ISA::sum(seen) == 0;
  }
  // The first tap that is not finite, ∞ without one.
  F first_tap() const {
    F found = set(HUGE_VALF);
    for (int64_t lag = op.kernel[0] - 1; lag >= 0; --lag) found = select(is_finite(tap(lag)), found, set(float(lag)));
    return found;
  }
  F tap(int64_t lag) const { return lag >= 0 && lag < op.kernel[0] ? load(op.kernel.row(lag) + first, lanes) : zero(); }

  const Past& p;
  const LongConv& op;
  const FftTables& tables;
  const int64_t m, first;
  const int lanes;
  float *signal, *taps, *sum;
};

}  // namespace

template <>
void run(const LongConv& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  const int64_t channels = op.x[1];
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t length = sequences.end(s) - sequences.begin(s);
    if (length > longest) longest = length;
  }
  const int64_t size = longest > kDirect ? points(longest) : 0;
  const FftTables tables(cx.shared<float>(FftTables::floats(size)), size);
  fill_tables(tables, cx);

  const int64_t most = std::min(longest, kDirect), blocks = ceil_div(channels, kLanes);
  const int64_t shared_out = blocks * sequences.count / (2 * cx.threads());
  const int64_t width = std::max(kLeastVectors, std::min(shared_out, kMostVectors / std::max<int64_t>(most, 1)));
  const int64_t panels = ceil_div(blocks, width);
  cx.parallel_for(sequences.count * panels, [&](int64_t i, int worker) {
    const Past past(op, sequences, i / panels);
    if (past.length > kDirect) return;
    const int64_t first = i % panels * width * kLanes, last = std::min(first + width * kLanes, channels);
    float* sums = cx.local<float>(worker, 2 * most * width * kLanes);
    past.append(first, last);
    direct(past, first, last, width, sums, sums + most * width * kLanes, cx);
  });
  if (size == 0) return;
  cx.parallel_for(sequences.count * blocks, [&](int64_t i, int worker) {
    const Past past(op, sequences, i / blocks);
    if (past.length <= kDirect) return;
    const int64_t first = i % blocks * kLanes, m = points(past.length);
    past.append(first, first + kLanes < channels ? first + kLanes : channels);
    Blocks(past, tables, m, first, cx.local<float>(worker, Blocks::scratch_floats(m))).run(cx);
  });
}

}  // namespace statespace::STATESPACE_ISA
