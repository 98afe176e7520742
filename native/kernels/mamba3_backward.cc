#include <algorithm>
#include <cstring>

#include "backend/kernels.h"
#include "kernels/mamba3_gradient.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace mamba3;

// Heads that one piece of work runs through add to the same rows of dB and dC: as few as keep those rows in some
// megabytes (with four ranks, 24 heads and 2048 tokens two a piece take 100 MB, six a third of that and no more time).
int64_t heads_of_piece(int64_t per_group, int64_t groups, int64_t floats) {
  constexpr int64_t kLeast = 4, kCached = 4 << 20;
  const int64_t most = std::max(kLeast, kCached / std::max<int64_t>(1, floats * groups));
  return std::max<int64_t>(2, ceil_div(per_group, most));
}

// to = the sums over sequences of what HeadSums has at `from`, (rank, width) of each head in rows of `stride`.
template <class Restore>
void over_sequences(const float* sums, int64_t each, int64_t from, int64_t sequences, const Sizes& z, int64_t ranks,
                    int64_t stride, float* row, const Tensor& to, Restore&& restore) {
  if (!to) return;
  for (int64_t h = 0; h < z.nheads; ++h)
    for (int64_t r = 0; r < ranks; ++r) {
      std::memset(row, 0, stride * sizeof(float));
      for (int64_t s = 0; s < sequences; ++s) {
        const float* own = sums + (s * z.nheads + h) * each + from + r * stride;
        for (int64_t i = 0; i < stride; ++i) row[i] += own[i];
      }
      restore(row, to.row(h), r);
    }
}

}  // namespace

template <>
void run(const Mamba3Backward& op, Context& cx) {
  const Mamba3 forward = op.forward();
  const Sizes z(forward);
  const int64_t tokens = op.x[0], per_group = z.nheads / z.ngroups;
  const Sequences sequences(op.cu_seqlens, Tensor(), tokens);
  const int64_t heads = heads_of_piece(per_group, z.ngroups, 2 * tokens * z.rank * z.n);
  const int64_t blocks = ceil_div(per_group, heads), pieces = z.ngroups * blocks, own = HeadSums::floats(z);
  const int64_t rows = tokens * z.rank * z.n, turns = op.angles.rank == 2 ? tokens * z.s : 0;
  float* sums = cx.kept<float>(sequences.count * z.nheads * own + pieces * (2 * rows + turns) + z.n + z.p);
  float* by_token = sums + sequences.count * z.nheads * own;
  std::memset(sums, 0, sequences.count * z.nheads * own * sizeof(float));
  const auto shared = [&](int64_t piece) {
    float* memory = by_token + piece * (2 * rows + turns);
    return TokenSums{memory, memory + rows, memory + 2 * rows, true};
  };
  cx.parallel_for(sequences.count * pieces, [&](int64_t i, int worker) {
    const int64_t s = i / pieces, piece = i % pieces, begin = sequences.begin(s), end = sequences.end(s);
    const int64_t first = piece / blocks * per_group + piece % blocks * heads;
    const int64_t last = std::min(first + heads, (piece / blocks + 1) * per_group);
    HeadGradient gradient(op, forward, z, end - begin, {cx.local<float>(worker, HeadGradient::floats(z, end - begin))});
    TokenSums of_piece = shared(piece);
    for (int64_t h = first; h < last; ++h, of_piece.first = false)
      gradient.run(cx, s, h, begin, end, HeadSums(z, sums + (s * z.nheads + h) * own), of_piece);
  });

  // Tokens of B and C belong to groups, those of shared angles to all heads.
  cx.parallel_for(tokens, [&](int64_t t, int worker) {
    float* row = cx.local<float>(worker, std::max(z.n, z.s));
    const auto sum = [&](int64_t first, int64_t count, int64_t at, int64_t width) {
      for (int64_t c = 0; c < width; c += kLanes) {
        F total = zero();
        for (int64_t p = first; p < first + count; ++p)
          total = total + load(by_token + p * (2 * rows + turns) + at + c, lanes_of(width - c));
        store(row + c, total, lanes_of(width - c));
      }
    };
    for (const Tensor* to : {&op.dB, &op.dC})
      for (int64_t g = 0; *to && g < z.ngroups; ++g)
        for (int64_t r = 0; r < z.rank; ++r) {
          sum(g * blocks, blocks, (to == &op.dC ? rows : 0) + (t * z.rank + r) * z.n, z.d_state);
          z.restored(row, to->row(t) + (r * z.ngroups + g) * z.d_state);
        }
    if (!op.dangles || !turns) return;
    sum(0, pieces, 2 * rows + t * z.s, z.angles);
    std::memcpy(op.dangles.row(t), row, z.angles * sizeof(float));
  });

  const HeadSums place(z, sums);
  float* row = by_token + pieces * (2 * rows + turns);
  const auto give = [&](const float* from, int64_t ranks, int64_t stride, const Tensor& to, auto&& restore) {
    over_sequences(sums, own, from - sums, sequences.count, z, ranks, stride, row, to, restore);
  };
  const auto states = [&](const float* from, float* to, int64_t r) { z.restored(from, to + r * z.d_state); };
  const auto values = [&](const float* from, float* to, int64_t r) {
    std::memcpy(to + r * z.headdim, from, z.headdim * sizeof(float));
  };
  const auto number = [](const float* from, float* to, int64_t) { *to = *from; };
  give(place.B_bias, z.rank, z.n, op.dB_bias, states);
  give(place.C_bias, z.rank, z.n, op.dC_bias, states);
  give(place.mimo_x, z.rank, z.p, op.dmimo_x, values);
  give(place.mimo_z, z.rank, z.p, op.dmimo_z, values);
  give(place.mimo_o, z.rank, z.p, op.dmimo_o, values);
  give(place.norm, 1, z.p, op.dnorm_weight, values);
  give(place.D, 1, 1, op.dD, number);
  give(place.dt_bias, 1, 1, op.ddt_bias, number);
}

}  // namespace statespace::STATESPACE_ISA
