// A long convolution. L real values times L others are a product of polynomials modulo t^m - i, m ≥ L: coefficients
// from m on become imaginary parts, and those from 2m on do not exist. With t = ωu, ω = e^{iπ/(2m)}, it is a cyclic
// convolution of m complex points. Sequences of up to kPoints tokens are one such product, inside one block. Longer
// ones are cut into pieces of kPoints, kernels too: the spectrum of a product's piece i is Σ_j X_j·K_{i-j}, the real
// part of its transform belongs to tokens of piece i and the imaginary part to those of piece i + 1. A value that is
// not finite would reach every output of its channel: it is left out of the transforms, and those that the sum itself
// gives it to become NaN.
#include <cfloat>

#include "fft.h"
#include "ops/fft_conv.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

constexpr int kOwn = kPoints / kFftThreads;  // points of a thread

struct ConvArgs {
  Rows<const float> x, kernel;
  global<const float> D;
  Rows<float> y;
  Sequences sequences;
  int channels, taps;
  global<Point> roots;
  global<int32_t> left_out;  // how many values are not finite

  Pieces pieces;               // of long sequences
  int first_channel = 0;       // of those whose spectra are at hand
  int at_once = 0, parts = 0;  // channels at hand; pieces of the kernel
  global<Point> signals;       // (pieces, at_once, kPoints) spectra
  global<Point> kernels;       // (parts, at_once, kPoints) spectra
  global<float> later;         // (pieces, at_once, kPoints): what a piece adds to the next one

  explicit ConvArgs(const FftConv& op)
      : x(op.x),
        kernel(op.kernel),
        D(global_data<const float>(op.D)),
        y(op.y),
        sequences(op.cu_seqlens, Tensor{}, op.x[0]),
        channels(int(op.x[1])),
        taps(int(op.kernel[1])),
        pieces(sequences, kPoints) {}

  __device__ Point twist(int t, int m) const { return roots[t * (kPoints / m)]; }
  // v, if it takes part in the transforms.
  __device__ float finite_or_zero(float v) const {
    if (fabsf(v) <= FLT_MAX) return v;
    atomic_add(left_out, 0, 1);
    return 0;
  }
  __device__ float skip(int64_t token, int channel) const { return D ? D[channel] * x[token][channel] : 0; }
};

__global__ void __launch_bounds__(kFftThreads) fill_roots(ConvArgs a) {
  const int k = int(blockIdx.x) * kFftThreads + int(threadIdx.x);
  double s, c;
  sincospi(double(k) / (2.0 * kPoints), &s, &c);
  a.roots[k] = {float(c), float(s)};
  if (k == 0) *a.left_out = 0;
}

// Calls fn(i, n) for the thread's points i < m, n counting them.
template <class Fn>
__device__ void each_point(int m, Fn fn) {
#pragma unroll
  for (int n = 0; n < kOwn; ++n) {
    const int i = int(threadIdx.x) + n * kFftThreads;
    if (i < m) fn(i, n);
  }
}

__device__ void load_kernel(const ConvArgs& a, FftShared& s, int channel, int first, int m) {
  each_point(m, [&](int i, int) {
    const float v = first + i < a.taps ? a.finite_or_zero(a.kernel[channel][first + i] / float(m)) : 0;
    s[i] = v * a.twist(i, m);
  });
}
__device__ void load_signal(const ConvArgs& a, FftShared& s, int channel, int token, int length, int m) {
  each_point(m,
             [&](int i, int) { s[i] = (i < length ? a.finite_or_zero(a.x[token + i][channel]) : 0) * a.twist(i, m); });
}

// One channel of one sequence, unless that is long. Two blocks: to have more resident the compiler spills.
__global__ void __launch_bounds__(kFftThreads, 2) convolve_short(ConvArgs a) {
  auto& s = shared<FftShared>();
  const int channel = int(blockIdx.x) % a.channels, sequence = int(blockIdx.x) / a.channels;
  const int token = a.sequences.begin(sequence), length = a.sequences.end(sequence) - token;
  if (length == 0 || length > kPoints) return;  // the whole block
  int m = 1;
  while (m < length) m *= 2;
  load_kernel(a, s, channel, 0, m);
  fft(s, m, a.roots);
  Point spectrum[kOwn];
  each_point(m, [&](int i, int n) { spectrum[n] = s[i]; });
  barrier();
  load_signal(a, s, channel, token, length, m);
  fft(s, m, a.roots);
  each_point(m, [&](int i, int n) { s[i] = s[i] * spectrum[n]; });
  inverse_fft(s, m, a.roots);
  each_point(length, [&](int i, int) {
    a.y[token + i][channel] = (s[i] * conjugate(a.twist(i, m))).re + a.skip(token + i, channel);
  });
}

__global__ void __launch_bounds__(kFftThreads) transform_kernels(ConvArgs a) {
  auto& s = shared<FftShared>();
  const int part = int(blockIdx.y);
  load_kernel(a, s, a.first_channel + int(blockIdx.x), part * kPoints, kPoints);
  fft(s, kPoints, a.roots);
  const global<Point> to = a.kernels + (int64_t(part) * a.at_once + blockIdx.x) * kPoints;
  each_point(kPoints, [&](int i, int) { to[i] = s[i]; });
}

// A piece of a long sequence.
struct LongPiece {
  int sequence, token, length, place;  // place: its number within the sequence
  bool exists;

  __device__ LongPiece(const ConvArgs& a, int piece) : sequence(a.pieces.sequence(piece)) {
    const int begin = a.sequences.begin(sequence), end = a.sequences.end(sequence);
    place = piece - a.pieces.first(sequence);
    token = begin + place * kPoints, length = smaller(kPoints, end - token);
    exists = end - begin > kPoints && length > 0;
  }
};

__global__ void __launch_bounds__(kFftThreads) transform_signals(ConvArgs a) {
  auto& s = shared<FftShared>();
  const LongPiece piece(a, int(blockIdx.y));
  if (!piece.exists) return;  // the whole block
  load_signal(a, s, a.first_channel + int(blockIdx.x), piece.token, piece.length, kPoints);
  fft(s, kPoints, a.roots);
  const global<Point> to = a.signals + (int64_t(blockIdx.y) * a.at_once + blockIdx.x) * kPoints;
  each_point(kPoints, [&](int i, int) { to[i] = s[i]; });
}

__global__ void __launch_bounds__(kFftThreads) multiply_spectra(ConvArgs a) {
  auto& s = shared<FftShared>();
  const LongPiece piece(a, int(blockIdx.y));
  if (!piece.exists) return;  // the whole block
  const int channel = a.first_channel + int(blockIdx.x);
  Point sum[kOwn] = {};
  for (int j = smaller(piece.place, a.parts - 1); j >= 0; --j) {
    const global<const Point> x = a.signals + ((int64_t(blockIdx.y) - j) * a.at_once + blockIdx.x) * kPoints;
    const global<const Point> k = a.kernels + (int64_t(j) * a.at_once + blockIdx.x) * kPoints;
    each_point(kPoints, [&](int i, int n) { sum[n] = sum[n] + x[i] * k[i]; });
  }
  each_point(kPoints, [&](int i, int n) { s[i] = sum[n]; });
  inverse_fft(s, kPoints, a.roots);
  const global<float> later = a.later + (int64_t(blockIdx.y) * a.at_once + blockIdx.x) * kPoints;
  each_point(kPoints, [&](int i, int) {
    const Point v = s[i] * conjugate(a.twist(i, kPoints));
    if (i < piece.length) a.y[piece.token + i][channel] = v.re + a.skip(piece.token + i, channel);
    later[i] = v.im;
  });
}

__global__ void __launch_bounds__(kFftThreads) add_earlier(ConvArgs a) {
  const LongPiece piece(a, int(blockIdx.y));
  if (!piece.exists || piece.place == 0) return;
  const global<const float> earlier = a.later + ((int64_t(blockIdx.y) - 1) * a.at_once + blockIdx.x) * kPoints;
  each_point(piece.length, [&](int i, int) { a.y[piece.token + i][a.first_channel + blockIdx.x] += earlier[i]; });
}

// One channel of one sequence: NaN where a value that was left out has its part.
__global__ void __launch_bounds__(kFftThreads) mark_reached(ConvArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kFftThreads + threadIdx.x;
  if (i >= int64_t(a.sequences.count) * a.channels || *a.left_out == 0) return;
  const int channel = int(i % a.channels), sequence = int(i / a.channels);
  const int token = a.sequences.begin(sequence), length = a.sequences.end(sequence) - token;
  int64_t tap = 0, until = 0;
  while (tap < a.taps && fabsf(a.kernel[channel][tap]) <= FLT_MAX) ++tap;
  if (tap == a.taps) tap = length;
  for (int t = 0; t < length; ++t) {
    if (!(fabsf(a.x[token + t][channel]) <= FLT_MAX)) until = int64_t(t) + a.taps;
    if (t < until || t >= tap) a.y[token + t][channel] = NAN;
  }
}

// Channels are taken so many at once that their spectra take no more than this.
constexpr int64_t kSpectraBytes = int64_t(256) << 20;

void convolve_long(ConvArgs a) {
  const int64_t pieces = a.pieces.count();
  a.parts = int(ceil_div(smaller(a.taps, a.sequences.tokens), kPoints));
  const int64_t bytes = kPoints * ((pieces + a.parts) * int64_t(sizeof(Point)) + pieces * int64_t(sizeof(float)));
  a.at_once = int(larger<int64_t>(1, smaller<int64_t>(a.channels, kSpectraBytes / bytes)));
  const Scratch<Point> signals(pieces * a.at_once * kPoints), kernels(a.parts * int64_t(a.at_once) * kPoints);
  const Scratch<float> later(pieces * a.at_once * kPoints);
  a.signals = signals.data(), a.kernels = kernels.data(), a.later = later.data();
  for (; a.first_channel < a.channels; a.first_channel += a.at_once) {
    const int64_t count = smaller(a.at_once, a.channels - a.first_channel);
    launch(transform_kernels, {count, a.parts}, kFftThreads, a);
    launch(transform_signals, {count, pieces}, kFftThreads, a);
    launch(multiply_spectra, {count, pieces}, kFftThreads, a);
    launch(add_earlier, {count, pieces}, kFftThreads, a);
  }
}

}  // namespace

template <>
void run(const FftConv& op) {
  ConvArgs args(op);
  if (args.sequences.tokens == 0 || args.channels == 0) return;
  const Scratch<Point> roots(kPoints);
  const Scratch<int32_t> left_out(1);
  args.roots = roots.data(), args.left_out = left_out.data();
  launch(fill_roots, {kPoints / kFftThreads}, kFftThreads, args);
  launch(convolve_short, {int64_t(args.sequences.count) * args.channels}, kFftThreads, args);
  if (args.sequences.tokens > kPoints) convolve_long(args);
  launch(mark_reached, {ceil_div(int64_t(args.sequences.count) * args.channels, kFftThreads)}, kFftThreads, args);
}

}  // namespace statespace::cuda
