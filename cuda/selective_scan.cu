// Selective scan. A warp takes one channel and 256 tokens at a time: each lane composes the recurrence over 8 tokens,
// shuffles scan these compositions over the lanes, and the last lane's state is carried to the next 256. Sequences that
// alone would leave the device idle are cut into pieces: a first pass finds what each piece does to a state, and a
// second scans all pieces at once. Few tokens a sequence (decode) go one by one, with the states across lanes.
#include "complex.h"
#include "elementary.h"
#include "ops/selective_scan.h"
#include "rate.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

struct ScanArgs {
  Rows<const float> u, delta, z, A, B, C;
  global<const float> D, delta_bias;
  Rows<float> y, state;
  Sequences sequences;
  int d_inner, d_state;
  bool constant_B, constant_C, softplus;
  int channels_per_group;  // that share B and C; d_inner where both are constant

  Pieces pieces;
  global<float> piece_state = nullptr;  // (pieces, d_inner, d_state): after a piece from zero, then before it
  global<float> piece_dt = nullptr;     // (pieces, d_inner): sum of dt
  int lanes_per_channel = 0;            // of scan_steps

  explicit ScanArgs(const SelectiveScan& op)
      : u(op.u),
        delta(op.delta),
        z(op.z),
        A(op.A),
        B(op.B),
        C(op.C),
        D(global_data<const float>(op.D)),
        delta_bias(global_data<const float>(op.delta_bias)),
        y(op.y),
        state(op.state),
        sequences(op.cu_seqlens, op.slots, op.u[0]),
        d_inner(int(op.u[1])),
        d_state(int(op.A[1])),
        constant_B(op.constant(op.B)),
        constant_C(op.constant(op.C)),
        softplus(op.delta_softplus),
        channels_per_group(int(d_inner / (!constant_B   ? op.B[1]
                                          : !constant_C ? op.C[1]
                                                        : 1))),
        pieces(sequences, op.u[0]) {}

  __device__ float dt(int64_t token, int channel) const {
    const float x = delta[token][channel] + (delta_bias ? delta_bias[channel] : 0);
    return softplus ? cuda::softplus(x) : x;
  }
  __device__ float finish(float out, int64_t token, int channel) const {
    return z ? out * silu(z[token][channel]) : out;
  }
};

// What differs between real and complex systems.
template <class T>
struct Numbers;
template <>
struct Numbers<float> {
  static constexpr int kWords = 1;
  static constexpr float kOne = 1, kZero = 0;
  __device__ static float load(global<const float> p, int64_t i) { return p[i]; }
  __device__ static void store(global<float> p, int64_t i, float v) { p[i] = v; }
  __device__ static float decay(float dt, float A) { return exp2f(dt * finite_rate(A) * kLog2e); }
  __device__ static float output(float c, float h) { return c * h; }
};
template <>
struct Numbers<Complex> {
  static constexpr int kWords = 2;
  static constexpr Complex kOne = {1, 0}, kZero = {0, 0};
  __device__ static Complex load(global<const float> p, int64_t i) { return {p[2 * i], p[2 * i + 1]}; }
  __device__ static void store(global<float> p, int64_t i, Complex v) { p[2 * i] = v.re, p[2 * i + 1] = v.im; }
  __device__ static Complex decay(float dt, Complex A) {
    const float size = exp2f(dt * finite_rate(A.re) * kLog2e);
    float s, c;
    sincosf(dt * A.im, &s, &c);
    return {size * c, size * s};
  }
  __device__ static float output(Complex c, Complex h) { return 2 * (c.re * h.re - c.im * h.im); }
};

constexpr int kThreads = 256;

// One channel of one sequence by `lanes_per_channel` lanes, which share its states.
template <class T>
__global__ void __launch_bounds__(kThreads, 3) scan_steps(ScanArgs a) {
  using N = Numbers<T>;
  const int lanes = a.lanes_per_channel, part = int(threadIdx.x) % lanes;
  const int tiles = int(ceil_div(a.d_inner, kThreads / lanes));
  const int s = int(blockIdx.x) / tiles;
  const int d = int(blockIdx.x) % tiles * (kThreads / lanes) + int(threadIdx.x) / lanes;
  const bool active = d < a.d_inner;
  const int group = d / a.channels_per_group, states = active ? a.d_state : 0;
  const int64_t width = int64_t(a.d_state) * N::kWords;
  const global<float> h = a.state[a.sequences.slot(s)] + (active ? d * width : 0);

  for (int t = a.sequences.begin(s); t < a.sequences.end(s); ++t) {
    const float dt = active ? a.dt(t, d) : 0, u = active ? a.u[t][d] : 0;
    const global<const float> B = a.constant_B ? a.B[d] : a.B[t] + group * width;
    const global<const float> C = a.constant_C ? a.C[d] : a.C[t] + group * width;
    float y = 0;
    for (int n = part; n < states; n += lanes) {
      const T next = N::decay(dt, N::load(a.A[d], n)) * N::load(h, n) + dt * u * N::load(B, n);
      N::store(h, n, next);
      y += N::output(N::load(C, n), next);
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) y += shuffle_xor(y, offset);
    if (active && part == 0) a.y[t][d] = a.finish(a.D ? y + a.D[d] * u : y, t, d);
  }
}

constexpr int kChannels = kThreads / 32;  // a warp each
constexpr int kItems = 8;                 // tokens a lane
constexpr int kChunk = 32 * kItems;

// Tokens in shared memory: 16 bytes of padding after a lane's keep its vector loads free of bank conflicts, and so do
// 16 after a row for those stores that go across rows.
template <class T>
constexpr int kPad = 16 / sizeof(T);
template <class T>
constexpr int kRow = kChunk + 32 * kPad<T> + kPad<T>;
template <class T>
__device__ constexpr int at_token(int t) {
  return t + t / kItems * kPad<T>;
}

template <class T>
constexpr int kStates = 4 / Numbers<T>::kWords;  // in shared memory at a time

template <class T>
struct alignas(16) ScanShared {
  float u[kChannels][kRow<float>];  // then y
  float dt[kChannels][kRow<float>];
  T B[kStates<T>][kRow<T>];
  T C[kStates<T>][kRow<T>];
};

// What a run of tokens does to a state: h -> decay·h + input.
template <class T>
struct Step {
  T decay, input;
};

// The composition of the steps of all lanes up to this one.
template <class T>
__device__ Step<T> scan_lanes(Step<T> step) {
#pragma unroll
  for (int offset = 1; offset < 32; offset *= 2) {
    const Step<T> before = shuffle_up(step, offset);
    if (lane() >= offset) step = {step.decay * before.decay, step.decay * before.input + step.input};
  }
  return step;
}

// The channels and tokens of a block's chunk.
struct ChunkRange {
  int first_channel, channels, begin, count;
};

// kStates rows of B or C for the chunk's tokens; zero where there are none.
template <class T>
__device__ void load_coefficients(T (*tile)[kRow<T>], const Rows<const float>& rows, int64_t offset,
                                  const ChunkRange& r, int first_state, int d_state) {
  for (int i = int(threadIdx.x); i < kChunk * kStates<T>; i += kThreads) {
    const int t = i / kStates<T>, n = i % kStates<T>;
    const bool inside = t < r.count && first_state + n < d_state;
    tile[n][at_token<T>(t)] =
        inside ? Numbers<T>::load(rows[r.begin + t] + offset, first_state + n) : Numbers<T>::kZero;
  }
}

// u and dt of a chunk; dt = 0, which leaves a state as it is, where there is no token.
template <class T>
__device__ void load_chunk(const ScanArgs& a, ScanShared<T>& s, const ChunkRange& r) {
  for (int i = int(threadIdx.x); i < kChunk * kChannels; i += kThreads) {
    const int t = i / kChannels, c = i % kChannels;
    const bool inside = t < r.count && c < r.channels;
    s.u[c][at_token<float>(t)] = inside ? a.u[r.begin + t][r.first_channel + c] : 0;
    s.dt[c][at_token<float>(t)] = inside ? a.dt(r.begin + t, r.first_channel + c) : 0;
  }
}

template <class T>
__device__ void store_chunk(const ScanArgs& a, const ScanShared<T>& s, const ChunkRange& r) {
  for (int i = int(threadIdx.x); i < kChunk * kChannels; i += kThreads) {
    const int t = i / kChannels, c = i % kChannels;
    if (t < r.count && c < r.channels)
      a.y[r.begin + t][r.first_channel + c] = a.finish(s.u[c][at_token<float>(t)], r.begin + t, r.first_channel + c);
  }
}

// kOnlyState: the first pass over pieces, which finds their end states from zero and the sums of dt.
template <class T, bool kOnlyState>
__global__ void __launch_bounds__(kThreads, 2) scan_chunks(ScanArgs a) {
  using N = Numbers<T>;
  auto& s = shared<ScanShared<T>>();
  const int piece = int(blockIdx.x), sequence = a.pieces.sequence(piece);
  const int start = a.sequences.begin(sequence) + (piece - a.pieces.first(sequence)) * a.pieces.size;
  const int end = smaller(a.sequences.end(sequence), start + a.pieces.size);
  if (start >= end) return;  // the whole block

  const int tiles_per_group = int(ceil_div(a.channels_per_group, kChannels));
  const int group = int(blockIdx.y) / tiles_per_group;
  const int in_group = int(blockIdx.y) % tiles_per_group * kChannels;
  const int first_channel = group * a.channels_per_group + in_group;
  const int channels = smaller(kChannels, a.channels_per_group - in_group);
  const bool active = warp() < channels;
  const int d = first_channel + (active ? warp() : 0);
  const int64_t width = int64_t(a.d_state) * N::kWords, group_offset = group * width;
  const global<float> carry =
      (a.piece_state ? a.piece_state + int64_t(piece) * a.d_inner * width : a.state[a.sequences.slot(sequence)]) +
      d * width;
  float total_dt = 0;

  for (int begin = start; begin < end; begin += kChunk) {
    const ChunkRange range{first_channel, channels, begin, smaller(kChunk, end - begin)};
    barrier();  // the last chunk's y has been read
    load_chunk(a, s, range);
    barrier();
    const int mine = lane() * (kItems + kPad<float>), mine_T = lane() * (kItems + kPad<T>);
    float dt[kItems], dt_u[kItems], y[kItems];
#pragma unroll
    for (int i = 0; i < kItems; ++i) {
      const float u = s.u[warp()][mine + i];
      dt[i] = s.dt[warp()][mine + i];
      dt_u[i] = dt[i] * u;
      y[i] = a.D ? a.D[d] * u : 0;
      total_dt += dt[i];
    }

    for (int first_state = 0; first_state < a.d_state; first_state += kStates<T>) {
      barrier();
      if (!a.constant_B) load_coefficients<T>(s.B, a.B, group_offset, range, first_state, a.d_state);
      if (!kOnlyState && !a.constant_C) load_coefficients<T>(s.C, a.C, group_offset, range, first_state, a.d_state);
      barrier();
      for (int j = 0; j < smaller(kStates<T>, a.d_state - first_state); ++j) {
        const int n = first_state + j;
        const T A = N::load(a.A[d], n);
        const T before = kOnlyState && begin == start ? N::kZero : N::load(carry, n);
        const T fixed_B = a.constant_B ? N::load(a.B[d], n) : N::kZero;
        Step<T> step = {N::kOne, N::kZero};
        Step<T> upto[kItems];
#pragma unroll
        for (int i = 0; i < kItems; ++i) {
          const T decay = N::decay(dt[i], A);
          const T B = a.constant_B ? fixed_B : s.B[j][mine_T + i];
          step = {decay * step.decay, decay * step.input + dt_u[i] * B};
          upto[i] = step;
        }
        const Step<T> all = scan_lanes(step);
        Step<T> previous = shuffle_up(all, 1);
        if (lane() == 0) previous = {N::kOne, N::kZero};
        if (!kOnlyState) {
          const T incoming = previous.decay * before + previous.input;
          const T fixed_C = a.constant_C ? N::load(a.C[d], n) : N::kZero;
#pragma unroll
          for (int i = 0; i < kItems; ++i) {
            const T C = a.constant_C ? fixed_C : s.C[j][mine_T + i];
            y[i] += N::output(C, upto[i].decay * incoming + upto[i].input);
          }
        }
        if (active && lane() == 31) N::store(carry, n, all.decay * before + all.input);
      }
    }
    if constexpr (!kOnlyState) {
#pragma unroll
      for (int i = 0; i < kItems; ++i) s.u[warp()][mine + i] = y[i];
      barrier();
      store_chunk(a, s, range);
    }
  }
  if (kOnlyState) {
    for (int offset = 16; offset > 0; offset /= 2) total_dt += shuffle_xor(total_dt, offset);
    if (active && lane() == 0) a.piece_dt[int64_t(piece) * a.d_inner + d] = total_dt;
  }
}

// One state of one channel: turns the pieces' end states into their start states, and leaves the sequence's last one.
template <class T>
__global__ void __launch_bounds__(kThreads) join_pieces(ScanArgs a) {
  using N = Numbers<T>;
  const int64_t per_sequence = int64_t(a.d_inner) * a.d_state;
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= per_sequence * a.sequences.count) return;
  const int sequence = int(i / per_sequence);
  const int64_t cell = i % per_sequence;
  const int d = int(cell / a.d_state), n = int(cell % a.d_state);
  const global<float> state = a.state[a.sequences.slot(sequence)];
  const T A = N::load(a.A[d], n);
  T h = N::load(state, cell);
  const int first = a.pieces.first(sequence);
  const int count = int(ceil_div(a.sequences.end(sequence) - a.sequences.begin(sequence), a.pieces.size));
  for (int piece = first; piece < first + count; ++piece) {
    const T from_zero = N::load(a.piece_state, piece * per_sequence + cell);
    N::store(a.piece_state, piece * per_sequence + cell, h);
    h = N::decay(a.piece_dt[int64_t(piece) * a.d_inner + d], A) * h + from_zero;
  }
  N::store(state, cell, h);
}

template <class T>
void scan(ScanArgs a) {
  const int64_t groups = a.d_inner / a.channels_per_group;
  const int64_t tiles = groups * ceil_div(a.channels_per_group, kChannels);
  constexpr int kFew = 16, kShortestPiece = 512;  // tokens
  if (a.sequences.tokens <= int64_t(kFew) * a.sequences.count) {
    a.lanes_per_channel = 1;
    while (a.lanes_per_channel < smaller(32, a.d_state)) a.lanes_per_channel *= 2;
    return launch(scan_steps<T>, {a.sequences.count * ceil_div(a.d_inner, kThreads / a.lanes_per_channel)}, kThreads,
                  a);
  }
  const int64_t wanted = ceil_div(4 * multiprocessors(), tiles);  // 4 blocks fit on a multiprocessor
  if (wanted >= 2 * a.sequences.count)
    a.pieces.size =
        int(larger<int64_t>(kShortestPiece, ceil_div(ceil_div(a.sequences.tokens, wanted), kChunk) * kChunk));
  const Grid grid = {a.pieces.count(), tiles};
  if (a.pieces.size >= a.sequences.tokens) return launch(scan_chunks<T, false>, grid, kThreads, a);

  const Scratch<float> states(grid.x * a.d_inner * a.d_state * Numbers<T>::kWords), sums(grid.x * a.d_inner);
  a.piece_state = states.data(), a.piece_dt = sums.data();
  launch(scan_chunks<T, true>, grid, kThreads, a);
  launch(join_pieces<T>, {ceil_div(int64_t(a.sequences.count) * a.d_inner * a.d_state, kThreads)}, kThreads, a);
  launch(scan_chunks<T, false>, grid, kThreads, a);
}

}  // namespace

template <>
void run(const SelectiveScan& op) {
  if (op.complex())
    scan<Complex>(ScanArgs(op));
  else
    scan<float>(ScanArgs(op));
}

}  // namespace statespace::cuda
