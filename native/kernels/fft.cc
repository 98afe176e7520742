#include "kernels/fft.h"

namespace statespace::STATESPACE_ISA {

void FftTables::fill_quarter(int64_t begin, int64_t end) const {
  constexpr double kPi = 3.14159265358979323846;
  for (int64_t k = begin; k < end; ++k) {
    const double angle = kPi * double(k) / (2.0 * double(size));
    quarter[2 * k] = float(std::cos(angle)), quarter[2 * k + 1] = float(std::sin(angle));
  }
}

void FftTables::fill_powers(int64_t m, int64_t begin, int64_t end) const {
  float* out = powers + 6 * (m / 4 - 1 + begin);
  for (int64_t j = begin; j < end; ++j)
    for (int64_t power = 1; power <= 3; ++power, out += 2) {
      // e^{-2πi·power·j/m}: the quarter's entry, turned by -i once for each quarter of the circle.
      const int64_t k = 4 * power * j * (size / m);
      const float c = root(k % size)[0], s = -root(k % size)[1];
      switch (k / size) {
        case 0:
          out[0] = c, out[1] = s;
          break;
        case 1:
          out[0] = s, out[1] = -c;
          break;
        default:
          out[0] = -c, out[1] = -s;
      }
    }
}

void fill_tables(const FftTables& tables, Context& cx) {
  constexpr int64_t kPiece = 1024;
  const int64_t size = tables.size;
  cx.parallel_for((size + kPiece - 1) / kPiece, [&](int64_t i, int) {
    tables.fill_quarter(i * kPiece, (i + 1) * kPiece < size ? (i + 1) * kPiece : size);
  });
  for (int64_t m = 4; m <= size; m *= 2)
    cx.parallel_for((m / 4 + kPiece - 1) / kPiece,
                    [&](int64_t i, int) { tables.fill_powers(m, i * kPiece, std::min(m / 4, (i + 1) * kPiece)); });
}

void fft_pass(const FftTables& tables, float* x, int64_t m, int64_t begin, int64_t end) {
  const int64_t q = m / 4 * kPoint;
  const float* w = tables.block(m) + 6 * begin;
  for (int64_t j = begin; j < end; ++j, w += 6) {
    float* p = x + j * kPoint;
    const Complex a = load_point(p), b = load_point(p + q), c = load_point(p + 2 * q), d = load_point(p + 3 * q);
    const Complex even = a + c, odd = a - c, sum = b + d, turned = times_i(b - d);
    store_point(p, even + sum);
    store_point(p + q, times(odd - turned, w));
    store_point(p + 2 * q, times(even - sum, w + 2));
    store_point(p + 3 * q, times(odd + turned, w + 4));
  }
}

void inverse_fft_pass(const FftTables& tables, float* x, int64_t m, int64_t begin, int64_t end) {
  const int64_t q = m / 4 * kPoint;
  const float* w = tables.block(m) + 6 * begin;
  for (int64_t j = begin; j < end; ++j, w += 6) {
    float* p = x + j * kPoint;
    const Complex a = load_point(p), b = times_conjugate(load_point(p + q), w);
    const Complex c = times_conjugate(load_point(p + 2 * q), w + 2), d = times_conjugate(load_point(p + 3 * q), w + 4);
    const Complex even = a + c, odd = a - c, sum = b + d, turned = times_i(b - d);
    store_point(p, even + sum);
    store_point(p + q, odd + turned);
    store_point(p + 2 * q, even - sum);
    store_point(p + 3 * q, odd - turned);
  }
}

namespace {

void pair(float* x) {
  const Complex a = load_point(x), b = load_point(x + kPoint);
  store_point(x, a + b), store_point(x + kPoint, a - b);
}

}  // namespace

void fft(const FftTables& tables, float* x, int64_t m) {
  if (m == 2) pair(x);
  if (m < 4) return;
  fft_pass(tables, x, m, 0, m / 4);
  if (m > 4)
    for (int64_t r = 0; r < 4; ++r) fft(tables, x + r * (m / 4) * kPoint, m / 4);
}

void inverse_fft(const FftTables& tables, float* x, int64_t m) {
  if (m == 2) pair(x);
  if (m < 4) return;
  if (m > 4)
    for (int64_t r = 0; r < 4; ++r) inverse_fft(tables, x + r * (m / 4) * kPoint, m / 4);
  inverse_fft_pass(tables, x, m, 0, m / 4);
}

}  // namespace statespace::STATESPACE_ISA
