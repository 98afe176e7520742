#include "ops/fft_conv.h"

#include "backend/kernels.h"
#include "kernels/fft_columns.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Channels [first, first + lanes) of the op, over arrays of points.
struct Columns {
  Columns(const FftConv& op, const FftTables& tables, int64_t block)
      : op(op),
        tables(tables),
        first(block * kLanes),
        lanes(op.x[1] - first < kLanes ? int(op.x[1] - first) : kLanes),
        skip(op.D ? load(op.D.f32() + first, lanes) : zero()) {}

  Signal signal(int64_t start, int64_t length) const { return {op.x, start, length, first, lanes}; }
  Taps taps() const { return {op.kernel, op.kernel[1], first, lanes, {}}; }

  // y_t = value t of the convolution + D x_t
  void store_signal(const float* points, int64_t m, int64_t start, int64_t begin, int64_t end) const {
    for (int64_t t = begin; t < end; ++t) {
      const F y = value_of(tables, points, t, m);
      store(op.y.row(start + t) + first, fma(skip, load(op.x.row(start + t) + first, lanes), y), lanes);
    }
  }

  // The same where inputs or taps were left out, of a whole sequence.
  void store_reached(const float* points, int64_t m, int64_t start, int64_t length) const {
    Reach reach(op.kernel[1], zero(), first_not_finite(op.kernel[1], taps()));
    for (int64_t t = 0; t < length; ++t) {
      const F x = load(op.x.row(start + t) + first, lanes);
      store(op.y.row(start + t) + first, fma(skip, x, reach(t, x, value_of(tables, points, t, m))), lanes);
    }
  }

  // A short sequence as its formula. k holds kSummedLength vectors.
  void direct(float* k, int64_t start, int64_t length) const {
    const int64_t count = op.kernel[1] < length ? op.kernel[1] : length;
    Taps taps = this->taps();
    for (int64_t s = 0; s < count; ++s) store(k + s * kLanes, taps(s));
    for (int64_t t = 0; t < length; ++t) {
      F y = skip * load(op.x.row(start + t) + first, lanes);
      for (int64_t s = 0; s <= t && s < count; ++s)
        y = fma(load(k + s * kLanes), load(op.x.row(start + t - s) + first, lanes), y);
      store(op.y.row(start + t) + first, y, lanes);
    }
  }

  const FftConv& op;
  const FftTables& tables;
  const int64_t first;
  const int lanes;
  const F skip;
};

// Each thread takes blocks of channels through all sequences.
void by_channels(const FftConv& op, const Sequences& sequences, const FftTables& tables, Context& cx) {
  cx.parallel_for(ceil_div(op.x[1], kLanes), [&](int64_t block, int worker) {
    const int64_t largest = tables.size < kOwnPoints ? tables.size : kOwnPoints,
                  room = largest < kSummedLength ? kSummedLength : largest;
    float* signal = cx.local<float>(worker, 2 * room * kPoint);
    float* spectrum = signal + room * kPoint;
    const Columns columns(op, tables, block);
    int64_t transformed = 0;  // points of the spectrum at hand
    bool finite_taps = true;
    for (int64_t s = 0; s < sequences.count; ++s) {
      const int64_t start = sequences.begin(s), length = sequences.end(s) - start;
      if (length <= kSummedLength) {
        columns.direct(signal, start, length);
        continue;
      }
      const int64_t m = points(length);
      if (m > kOwnPoints) continue;
      if (m != transformed) {
        finite_taps = transform(tables, spectrum, m, 1 / float(m), columns.taps());
        transformed = m;
      }
      const bool finite = transform(tables, signal, m, 1, columns.signal(start, length));
      multiply_points(signal, spectrum, signal, 0, m);
      inverse_fft(tables, signal, m);
      if (finite && finite_taps)
        columns.store_signal(signal, m, start, 0, length);
      else
        columns.store_reached(signal, m, start, length);
    }
  });
}

// All threads on one block of channels of one long sequence: the first passes are cut by butterflies, the rest by
// parts.
class LongSequence {
 public:
  LongSequence(const Columns& columns, Context& cx, int64_t m, int64_t start, int64_t length)
      : columns(columns), cx(cx), m(m), start(start), length(length) {}

  void run(float* signal, float* spectrum) {
    bool finite = true;
    const auto load = [&](float* to, float scale, const auto& values, int64_t begin, int64_t end) {
      if (load_points(columns.tables, to, m, scale, begin, end, true, values)) return;
      load_points(columns.tables, to, m, scale, begin, end, false, values);
      __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
    };
    pieces(m, [&](int64_t begin, int64_t end) {
      load(spectrum, 1 / float(m), columns.taps(), begin, end);
      load(signal, 1, columns.signal(start, length), begin, end);
    });
    forward(spectrum), forward(signal);
    pieces(m, [&](int64_t begin, int64_t end) { multiply_points(signal, spectrum, signal, begin, end); });
    cx.parallel_for(16,
                    [&](int64_t part, int) { inverse_fft(columns.tables, signal + part * m / 16 * kPoint, m / 16); });
    for (int64_t r = 0; r < 4; ++r)
      pieces(m / 16, [&](int64_t begin, int64_t end) {
        inverse_fft_pass(columns.tables, signal + r * (m / 4) * kPoint, m / 4, begin, end);
      });
    pieces(m / 4, [&](int64_t begin, int64_t end) { inverse_fft_pass(columns.tables, signal, m, begin, end); });
    if (!finite) return columns.store_reached(signal, m, start, length);
    pieces(length, [&](int64_t begin, int64_t end) { columns.store_signal(signal, m, start, begin, end); });
  }

 private:
  template <class Fn>
  void pieces(int64_t count, Fn&& fn) {
    constexpr int64_t kPiece = 2048;
    cx.parallel_for(ceil_div(count, kPiece),
                    [&](int64_t i, int) { fn(i * kPiece, (i + 1) * kPiece < count ? (i + 1) * kPiece : count); });
  }
  void forward(float* x) {
    pieces(m / 4, [&](int64_t begin, int64_t end) { fft_pass(columns.tables, x, m, begin, end); });
    for (int64_t r = 0; r < 4; ++r)
      pieces(m / 16, [&](int64_t begin, int64_t end) {
        fft_pass(columns.tables, x + r * (m / 4) * kPoint, m / 4, begin, end);
      });
    cx.parallel_for(16, [&](int64_t part, int) { fft(columns.tables, x + part * m / 16 * kPoint, m / 16); });
  }

  const Columns& columns;
  Context& cx;
  const int64_t m, start, length;
};

}  // namespace

template <>
void run(const FftConv& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.x[0]);
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t length = sequences.end(s) - sequences.begin(s);
    longest = length > longest ? length : longest;
  }
  const int64_t size = longest > kSummedLength ? points(longest) : 0;
  const int64_t table_floats = ceil_div(FftTables::floats(size), 16) * 16;
  float* memory = cx.shared<float>(table_floats + (size > kOwnPoints ? 2 * size * kPoint : 0));
  const FftTables tables(memory, size);
  fill_tables(tables, cx);

  by_channels(op, sequences, tables, cx);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t start = sequences.begin(s), length = sequences.end(s) - start, m = points(length);
    if (m <= kOwnPoints) continue;
    for (int64_t block = 0; block < ceil_div(op.x[1], kLanes); ++block) {
      const Columns columns(op, tables, block);
      float* signal = memory + table_floats;
      LongSequence(columns, cx, m, start, length).run(signal, signal + m * kPoint);
    }
  }
}

}  // namespace statespace::STATESPACE_ISA
