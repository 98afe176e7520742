#include "ops/fft_conv.h"

#include "backend/kernels.h"
#include "kernels/fft.h"
#include "kernels/reach.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

// Sequences up to this length are summed directly: the transforms cost more (measured).
constexpr int64_t kDirect = 64;
// Transforms beyond this many points are shared by the threads instead of held by each: memory does not grow with them.
constexpr int64_t kLargest = 1 << 16;

// The real convolution of L values is the product of polynomials modulo t^m - i, m ≥ L: coefficients from m on become
// imaginary parts, and those from 2m on do not exist. With t = ωu, ω = e^{iπ/(2m)}, it is a cyclic convolution of m
// complex points: half the size of the usual zero-padded transform, and no symmetry of spectra to unpack.

// Channels [first, first + lanes) of the op, over arrays of points.
struct Columns {
  Columns(const FftConv& op, const FftTables& tables, int64_t block)
      : op(op),
        tables(tables),
        first(block * kLanes),
        lanes(op.x[1] - first < kLanes ? int(op.x[1] - first) : kLanes),
        skip(op.D ? load(op.D.f32() + first, lanes) : zero()) {}

  const float* twist(int64_t t, int64_t m) const { return tables.twist(t, m); }

  // spectrum[s] = kernel[s] ω^s / m for s in [begin, end), zeros from `length` on. Whether all were finite; without
  // `all`, only those are loaded.
  bool load_kernel(float* spectrum, int64_t m, int64_t length, int64_t begin, int64_t end, bool all = true) const {
    alignas(64) float k[kLanes] = {};
    const F scale = set(1 / float(m));
    F seen = zero();
    for (int64_t s = begin; s < end; ++s) {
      if (s < length)
        for (int l = 0; l < lanes; ++l) k[l] = op.kernel.row(first + l)[s];
      F value = s < length ? load(k) * scale : zero();
      if (!all) value = finite_or_zero(value);
      seen = fma(value, zero(), seen);
      store_point(spectrum + s * kPoint, {value * set(twist(s, m)[0]), value * set(twist(s, m)[1])});
    }
    return sum(seen) == 0;
  }
  // signal[t] = x_t ω^t, in the same way.
  bool load_signal(float* signal, int64_t m, int64_t start, int64_t length, int64_t begin, int64_t end,
                   bool all = true) const {
    F seen = zero();
    for (int64_t t = begin; t < end; ++t) {
      F value = t < length ? load(op.x.row(start + t) + first, lanes) : zero();
      if (!all) value = finite_or_zero(value);
      seen = fma(value, zero(), seen);
      store_point(signal + t * kPoint, {value * set(twist(t, m)[0]), value * set(twist(t, m)[1])});
    }
    return sum(seen) == 0;
  }
  static void multiply(float* signal, const float* spectrum, int64_t begin, int64_t end) {
    for (int64_t j = begin * kPoint; j < end * kPoint; j += kPoint)
      store_point(signal + j, load_point(signal + j) * load_point(spectrum + j));
  }
  // y_t = Re(signal[t] ω^-t) + D x_t
  void store_signal(const float* signal, int64_t m, int64_t start, int64_t begin, int64_t end) const {
    for (int64_t t = begin; t < end; ++t) {
      const F y = times_conjugate(load_point(signal + t * kPoint), twist(t, m)).re;
      store(op.y.row(start + t) + first, fma(skip, load(op.x.row(start + t) + first, lanes), y), lanes);
    }
  }

  // The same where inputs or taps were left out, of a whole sequence.
  void store_reached(const float* signal, int64_t m, int64_t start, int64_t length) const {
    alignas(64) float first_tap[kLanes];
    for (int l = 0; l < kLanes; ++l) {
      int64_t tap = 0;
      while (l < lanes && tap < op.kernel[1] && is_finite(op.kernel.row(first + l)[tap])) ++tap;
      first_tap[l] = l < lanes && tap < op.kernel[1] ? float(tap) : HUGE_VALF;
    }
    Reach reach(op.kernel[1], zero(), load(first_tap));
    for (int64_t t = 0; t < length; ++t) {
      const F x = load(op.x.row(start + t) + first, lanes);
      const F y = times_conjugate(load_point(signal + t * kPoint), twist(t, m)).re;
      store(op.y.row(start + t) + first, fma(skip, x, reach(t, x, y)), lanes);
    }
  }

  // A short sequence as its formula. k holds kDirect vectors.
  void direct(float* k, int64_t start, int64_t length) const {
    const int64_t taps = op.kernel[1] < length ? op.kernel[1] : length;
    for (int64_t s = 0; s < taps; ++s)
      for (int l = 0; l < kLanes; ++l) k[s * kLanes + l] = l < lanes ? op.kernel.row(first + l)[s] : 0;
    for (int64_t t = 0; t < length; ++t) {
      F y = skip * load(op.x.row(start + t) + first, lanes);
      for (int64_t s = 0; s <= t && s < taps; ++s)
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
  const int64_t kernel_len = op.kernel[1];
  cx.parallel_for(ceil_div(op.x[1], kLanes), [&](int64_t block, int worker) {
    const int64_t largest = tables.size < kLargest ? tables.size : kLargest,
                  room = largest < kDirect ? kDirect : largest;
    float* signal = cx.local<float>(worker, 2 * room * kPoint);
    float* spectrum = signal + room * kPoint;
    const Columns columns(op, tables, block);
    int64_t transformed = 0;  // points of the spectrum at hand
    bool finite_taps = true;
    for (int64_t s = 0; s < sequences.count; ++s) {
      const int64_t start = sequences.begin(s), length = sequences.end(s) - start;
      if (length <= kDirect) {
        columns.direct(signal, start, length);
        continue;
      }
      const int64_t m = points(length);
      if (m > kLargest) continue;
      if (m != transformed) {
        finite_taps = columns.load_kernel(spectrum, m, kernel_len, 0, m);
        if (!finite_taps) columns.load_kernel(spectrum, m, kernel_len, 0, m, false);
        fft(tables, spectrum, m);
        transformed = m;
      }
      const bool finite = columns.load_signal(signal, m, start, length, 0, m);
      if (!finite) columns.load_signal(signal, m, start, length, 0, m, false);
      fft(tables, signal, m);
      Columns::multiply(signal, spectrum, 0, m);
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

  void run(float* signal, float* spectrum, int64_t kernel_len) {
    bool finite = true;
    pieces(m, [&](int64_t begin, int64_t end) {
      const bool taps = columns.load_kernel(spectrum, m, kernel_len, begin, end);
      const bool inputs = columns.load_signal(signal, m, start, length, begin, end);
      if (!taps) columns.load_kernel(spectrum, m, kernel_len, begin, end, false);
      if (!inputs) columns.load_signal(signal, m, start, length, begin, end, false);
      if (!taps || !inputs) __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
    });
    forward(spectrum), forward(signal);
    pieces(m, [&](int64_t begin, int64_t end) { Columns::multiply(signal, spectrum, begin, end); });
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
  const int64_t size = longest > kDirect ? points(longest) : 0;
  const int64_t table_floats = ceil_div(FftTables::floats(size), 16) * 16;
  float* memory = cx.shared<float>(table_floats + (size > kLargest ? 2 * size * kPoint : 0));
  const FftTables tables(memory, size);
  fill_tables(tables, cx);

  by_channels(op, sequences, tables, cx);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t start = sequences.begin(s), length = sequences.end(s) - start, m = points(length);
    if (m <= kLargest) continue;
    for (int64_t block = 0; block < ceil_div(op.x[1], kLanes); ++block) {
      const Columns columns(op, tables, block);
      float* signal = memory + table_floats;
      LongSequence(columns, cx, m, start, length).run(signal, signal + m * kPoint, op.kernel[1]);
    }
  }
}

}  // namespace statespace::STATESPACE_ISA
