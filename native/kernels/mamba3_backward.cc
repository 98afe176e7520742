#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/kernels.h"
#include "kernels/mamba3_gradient.h"
#include "kernels/rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace mamba3;

// Heads that share a chunk's rows of dB and dC, and how many pieces there are at least, heads permitting. Of shapes
// alone, so that sums are the same on any number of threads.
constexpr int64_t kHeads = 6, kPieces = 4;

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
  const int64_t most = std::clamp<int64_t>(ceil_div(z.nheads, kPieces), 1, kHeads);
  const int64_t blocks = ceil_div(per_group, most), heads = ceil_div(per_group, blocks), pieces = z.ngroups * blocks,
                own = HeadSums::floats(z);
  const int64_t rows = tokens * z.rank * z.n, turns = op.angles.rank == 2 ? tokens * z.s : 0;
  float* sums = cx.kept<float>(sequences.count * z.nheads * own + pieces * (2 * rows + turns) + z.n + z.p +
                               2 * rows * z.ngroups + turns);
  float* by_token = sums + sequences.count * z.nheads * own;
  std::memset(sums, 0, sequences.count * z.nheads * own * sizeof(float));
  const auto shared = [&](int64_t piece) {
    float* memory = by_token + piece * (2 * rows + turns);
    return TokenSums{memory, memory + rows, memory + 2 * rows, true};
  };
  float *B = by_token + pieces * (2 * rows + turns) + z.n + z.p, *C = B + rows * z.ngroups;
  float* rates = turns ? C + rows * z.ngroups : nullptr;
  for_row_blocks(cx, tokens, 2 * z.rank * z.ngroups * z.n + z.s, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = t * z.rank * z.ngroups;
      for (int64_t i = 0; i < z.rank * z.ngroups; ++i) {
        z.ordered(op.B.row(t) + i * z.d_state, B + (first + i) * z.n);
        z.ordered(op.C.row(t) + i * z.d_state, C + (first + i) * z.n);
      }
      if (rates) rates_of(forward, z, 0, t, rates + t * z.s);
    }
  });
  cx.parallel_for(sequences.count * pieces, [&](int64_t i, int worker) {
    const int64_t s = i / pieces, piece = i % pieces, begin = sequences.begin(s), end = sequences.end(s);
    const int64_t first = piece / blocks * per_group + piece % blocks * heads;
    const int64_t last = std::min(first + heads, (piece / blocks + 1) * per_group);
    const int64_t floats = Workspace::floats(op, z, end - begin) + heads * HeadGradient::floats(op, z, end - begin);
    Arena arena{cx.local<float>(worker, floats)};
    Workspace workspace(op, z, end - begin, arena);
    std::vector<HeadGradient> gradients;
    gradients.reserve(heads);
    for (int64_t h = first; h < last; ++h)
      gradients.emplace_back(op, forward, TokenRows{B, C, rates}, z, workspace, s, h, begin, end, arena);
    for (int64_t segment = last > first ? gradients[0].segments() - 1 : -1; segment >= 0; --segment) {
      TokenSums of_piece = shared(piece);
      for (int64_t h = first; h < last; ++h, of_piece.first = false) {
        const bool same = h + 1 < last;
        gradients[h - first].run(cx, segment, HeadSums(z, sums + (s * z.nheads + h) * own), of_piece,
                                 gradients[same ? h + 1 - first : 0], same ? segment : segment - 1);
      }
    }
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
