// A product on tensor cores, f32 sums. x is first rounded to the products' type, which also gathers and gates it: f16
// for f16 and quantised weights, with a power of two a row that brings its largest value near f16's, so that none
// overflows. Quantised weights are multiplied as the integers that they are, exactly, and each group's sum by its
// scale; where groups have a minimum, so is the sum of x over the group.
#include "weights.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kDepth = 32;  // columns of x and the weight in shared memory at a time: a group of quants, or two

template <class T>
struct RoundArgs {
  Product p;
  global<T> x;          // (rows, stride)
  global<float> scale;  // (rows), of f16
  global<float> sums;   // (rows, stride / kDepth) of what is in x, where a weight has minima
  int64_t rows, stride;
};

// One row a warp.
template <class T>
__global__ void __launch_bounds__(kThreads) round_rows(RoundArgs<T> a) {
  const int64_t row = int64_t(blockIdx.x) * (kThreads / 32) + warp();
  const bool active = row < a.rows;
  float factor = 1;
  if constexpr (std::is_same_v<T, f16>) {
    float largest = 0;
    for (int k = lane(); active && k < a.p.in; k += 32) largest = fmaxf(largest, fabsf(a.p.input(row, k)));
    for (int mask = 16; mask > 0; mask /= 2) largest = fmaxf(largest, shuffle_xor(largest, mask));
    int exponent = 0;
    if (largest > 0 && largest < INFINITY) frexpf(largest, &exponent);
    // Below 2^-100 a row is as good as none, and its factor would overflow.
    exponent = larger(exponent, -100);
    factor = ldexpf(1.f, 14 - exponent);
    if (active && lane() == 0) a.scale[row] = ldexpf(1.f, exponent - 14);
  }
  for (int k = lane(); active && k < a.stride; k += 32) {
    const T v = from_float<T>(k < a.p.in ? a.p.input(row, k) * factor : 0);
    a.x[row * a.stride + k] = v;
    if (!a.sums) continue;
    float sum = to_float(v);
    for (int mask = 16; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
    if (lane() == 0) a.sums[(row * a.stride + k) / kDepth] = sum;
  }
}

template <class T>
struct MmaArgs {
  Product p;
  Pieces tiles;
  global<const T> x;
  global<const float> scale, sums;
  int64_t stride;
};

// Rows of 32 halves are four chunks of 16 bytes, turned so that the eight rows of a matrix lie in different banks.
__device__ inline int swizzled(int row, int chunk) { return 8 * (chunk ^ (row / 2 & 3)); }

template <class W>
constexpr int kStages = kQuantised<W> ? 2 : 3;
template <class W>
constexpr bool kMins = false;
template <Quantised W>
constexpr bool kMins<W> = W::kMins;

template <class W, int kTile>
struct Scales {};
template <Quantised W, int kTile>
struct Scales<W, kTile> {
  static constexpr int kGroups = kDepth / W::kGroup;
  float scale[kStages<W>][kGroups][kTile];  // of each row's groups
  float min[kStages<W>][W::kMins ? kTile : 1];
  float sum[kStages<W>][W::kMins ? kTile : 1];  // of each row of x
};

template <class T, class W, int kTile>
struct alignas(128) MmaShared : Scales<W, kTile> {
  T x[kStages<W>][kTile][kDepth];
  T w[kStages<W>][kTile][kDepth];
};

template <class T, class W, int kTile>
__device__ void load_x(const MmaArgs<T>& a, MmaShared<T, W, kTile>& s, int stage, int begin, int rows, int k0) {
#pragma unroll
  for (int i = int(threadIdx.x); i < kTile * 4; i += kThreads) {
    const int r = i / 4, chunk = i % 4;
    const bool inside = r < rows;
    copy_async<16>(&s.x[stage][r][swizzled(r, chunk)],
                   at(a.x, inside ? (begin + r) * a.stride + k0 + 8 * chunk : 0, inside ? 8 : 0), inside ? 16 : 0);
    if constexpr (kMins<W>)
      if (chunk == 0) s.sum[stage][r] = inside ? a.sums[((begin + r) * a.stride + k0) / kDepth] : 0;
  }
}

template <class T, class W, int kTile>
__device__ void load_weight(const MmaArgs<T>& a, MmaShared<T, W, kTile>& s, int stage, int64_t base, int columns,
                            int k0) {
  const Product& p = a.p;
#pragma unroll
  for (int i = int(threadIdx.x); i < kTile * 4; i += kThreads) {
    const int r = i / 4, chunk = i % 4, k = k0 + 8 * chunk;
    T* to = &s.w[stage][r][swizzled(r, chunk)];
    const int count = r < columns ? larger(0, smaller(8, p.in - k)) : 0;
    const int64_t from = base + r * p.row_stride + k;
    if constexpr (kQuantised<W>) {
      float q[8] = {};
      Group group{};
      if (count > 0) {
        const global<const uint8_t> block = p.weight + weight_offset<W>(from);
        W::quants(block, k % W::kValues, q);
        if (8 * chunk % W::kGroup == 0) group = W::group(block, k % W::kValues);
      }
      Words words;
#pragma unroll
      for (int j = 0; j < 4; ++j) words.w[j] = pack2<T>(q[2 * j], q[2 * j + 1]);
      *reinterpret_cast<Words*>(to) = words;
      if (8 * chunk % W::kGroup == 0) {
        s.scale[stage][8 * chunk / W::kGroup][r] = group.scale;
        if constexpr (W::kMins) s.min[stage][r] = group.min;
      }
    } else if (p.aligned) {
      copy_async<16>(to, at(p.weight, count ? weight_offset<W>(from) : 0, count * sizeof(W)), count * int(sizeof(W)));
    } else {
#pragma unroll
      for (int j = 0; j < 8; ++j)
        to[j] = j < count ? *reinterpret_cast<const W*>(at(p.weight, weight_offset<W>(from + j), sizeof(W)))
                          : from_float<T>(0);
    }
  }
}

// A block's tile is kTile square, its 8 warps lie 2 by 4 in it, and a warp's part is kDown by kAcross products of 16 by
// 8.
template <class T, class W, int kTile>
__global__ void __launch_bounds__(kThreads) mma_tiles(MmaArgs<T> a) {
  constexpr int kDown = kTile / 32, kAcross = kTile / 32, kAhead = kStages<W> - 1;
  auto& s = shared<MmaShared<T, W, kTile>>();
  const Product& p = a.p;
  const int tile = int(blockIdx.x), group = a.tiles.sequence(tile);
  const int begin = p.groups.begin(group) + (tile - a.tiles.first(group)) * kTile;
  const int rows = smaller(kTile, p.groups.end(group) - begin);
  if (rows <= 0) return;  // the whole block
  const int first = int(blockIdx.y) * kTile, columns = smaller(kTile, p.out - first);
  const int64_t base = group * p.group_stride + first * p.row_stride;
  const int top = warp() / 4 * (kTile / 2), left = warp() % 4 * (kTile / 4);

  auto fetch = [&](int k0, int stage) {
    if (k0 < p.in) {
      load_x(a, s, stage, begin, rows, k0);
      load_weight(a, s, stage, base, columns, k0);
    }
    copy_async_commit();
  };
#pragma unroll
  for (int i = 0; i < kAhead; ++i) fetch(i * kDepth, i);

  float sums[kDown][kAcross][4] = {};
  int stage = 0;
  for (int k0 = 0; k0 < p.in; k0 += kDepth) {
    copy_async_wait<kAhead - 1>();
    barrier();
    fetch(k0 + kAhead * kDepth, (stage + kAhead) % kStages<W>);

    uint32_t x[2][kDown][4], w[2][kAcross / 2][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int i = 0; i < kDown; ++i) {
        const int r = top + 16 * i + lane() % 16;
        load_matrices(x[half][i], &s.x[stage][r][swizzled(r, 2 * half + lane() / 16)]);
      }
#pragma unroll
      for (int j = 0; j < kAcross / 2; ++j) {
        const int r = left + 16 * j + lane() % 8 + lane() / 16 * 8;
        load_matrices(w[half][j], &s.w[stage][r][swizzled(r, 2 * half + lane() / 8 % 2)]);
      }
    }
#pragma unroll
    for (int i = 0; i < kDown; ++i)
#pragma unroll
      for (int j = 0; j < kAcross; ++j) {
        auto multiply = [&](float(&d)[4], int half) {
          const uint32_t b[2] = {w[half][j / 2][j % 2 * 2], w[half][j / 2][j % 2 * 2 + 1]};
          mma<T>(d, x[half][i], b);
        };
        if constexpr (kQuantised<W>) {
          constexpr int kGroups = kDepth / W::kGroup;
          const int r = top + 16 * i + lane() / 4, c = left + 8 * j + lane() % 4 * 2;
#pragma unroll
          for (int g = 0; g < kGroups; ++g) {
            float group[4] = {};
#pragma unroll
            for (int half = 2 * g / kGroups; half < 2 * (g + 1) / kGroups; ++half) multiply(group, half);
#pragma unroll
            for (int n = 0; n < 4; ++n) sums[i][j][n] += s.scale[stage][g][c + n % 2] * group[n];
          }
          if constexpr (W::kMins)
#pragma unroll
            for (int n = 0; n < 4; ++n) sums[i][j][n] -= s.min[stage][c + n % 2] * s.sum[stage][r + n / 2 * 8];
        } else {
          multiply(sums[i][j], 0), multiply(sums[i][j], 1);
        }
      }
    stage = (stage + 1) % kStages<W>;
  }
#pragma unroll
  for (int i = 0; i < kDown; ++i)
#pragma unroll
    for (int j = 0; j < kAcross; ++j)
#pragma unroll
      for (int n = 0; n < 4; ++n) {
        const int r = top + 16 * i + lane() / 4 + n / 2 * 8, c = left + 8 * j + lane() % 4 * 2 + n % 2;
        if (r < rows && c < columns)
          p.epilogue.store(begin + r, first + c, a.scale ? sums[i][j][n] * a.scale[begin + r] : sums[i][j][n]);
      }
}

template <class T, class W, int kTile>
void start(MmaArgs<T> args) {
  const Product& p = args.p;
  args.tiles = {p.groups, kTile};
  launch(mma_tiles<T, W, kTile>, {args.tiles.count(), ceil_div(p.out, kTile)}, kThreads, args);
}

template <class T, class W>
void run_product(const Product& p) {
  const int64_t stride = ceil_div(p.in, kDepth) * kDepth;
  const Scratch<T> x(p.rows() * stride);
  const Scratch<float> scale(p.rows()), sums(kMins<W> ? p.rows() * stride / kDepth : 1);
  const global<float> none = nullptr;
  const RoundArgs<T> round{p, x.data(), scale.data(), kMins<W> ? sums.data() : none, p.rows(), stride};
  launch(round_rows<T>, {ceil_div(p.rows(), kThreads / 32)}, kThreads, round);
  const MmaArgs<T> args{p, {p.groups, 1}, x.data(), std::is_same_v<T, f16> ? scale.data() : none, round.sums, stride};
  // Large tiles read less; small ones leave no multiprocessor idle.
  if (ceil_div(p.rows(), 128) * ceil_div(p.out, 128) >= multiprocessors()) return start<T, W, 128>(args);
  start<T, W, 64>(args);
}

}  // namespace

void product_mma(const Product& p) {
  switch (p.dtype) {
    case DType::bf16:
      return run_product<bf16, bf16>(p);
    case DType::q8_0:
      return run_product<f16, Q8>(p);
    case DType::q4_0:
      return run_product<f16, Q4>(p);
    case DType::q4_k:
      return run_product<f16, Q4K>(p);
    case DType::q6_k:
      return run_product<f16, Q6K>(p);
    default:
      return run_product<f16, f16>(p);
  }
}

}  // namespace statespace::cuda
