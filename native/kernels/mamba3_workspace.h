#pragma once
// What the gradients of Mamba-3's heads share: memory, rows of their inputs, and sums.
#include <algorithm>
#include <bit>

#include "kernels/decay_gradient.h"
#include "kernels/mamba3_head.h"

namespace statespace::STATESPACE_ISA::mamba3 {

// Sums over the tokens of a sequence, of one head; channels of d_state in the order of mamba3_head.h.
struct HeadSums {
  float *B_bias, *C_bias;           // (rank, n)
  float *mimo_x, *mimo_z, *mimo_o;  // (rank, p)
  float *norm, *D, *dt_bias;        // (p), (1), (1)
  static int64_t floats(const Sizes& z) { return 2 * z.rank * z.n + 3 * z.rank * z.p + z.p + 16; }
  HeadSums(const Sizes& z, float* memory) : B_bias(memory), C_bias(B_bias + z.rank * z.n) {
    mimo_x = C_bias + z.rank * z.n, mimo_z = mimo_x + z.rank * z.p, mimo_o = mimo_z + z.rank * z.p;
    norm = mimo_o + z.rank * z.p, D = norm + z.p, dt_bias = D + 1;
  }
};

// What heads add to for the tokens of a call: (tokens, rank, n), and (tokens, s) of angles that heads share.
struct TokenSums {
  float *B, *C, *angles;
  bool first;  // the first head writes
};

// What heads share of the inputs: B and C in the order of mamba3_head.h, (tokens, rank, ngroups, n), and how fast θ
// turns, (tokens, s), absent where heads have angles of their own.
struct TokenRows {
  const float *B, *C, *rates;
};

// As many tokens as have the rows of a chunk: a power of two, so that chunks begin where states are kept.
inline int64_t tokens_of_chunk(const Sizes& z) {
  const int64_t rows = z.rank > 1 && z.rank <= 32 ? 32 : kDecayChunk;
  return int64_t(std::bit_floor(uint64_t(rows / z.rank)));
}

// Memory that the heads of a piece of work use one after the other.
struct Workspace {
  int64_t segment;  // chunks whose states are held at once: between places where the forward kept one, or else all
  DecayGradient chunk;
  Steps steps;
  float* states;                           // (chunks of a segment, p, n)
  float *theta, *sine, *cosine;            // (s), (s), (tokens of a chunk, s)
  float *channels, *v, *e, *dz;            // (n), (rows, p), (rows, rank), (p)
  float *of_v, *of_k;                      // (rank, rank)
  float *k_before, *v_before, *dv_before;  // (rank, n), (rank, p), (p)

  Workspace(const Mamba3Backward& op, const Sizes& z, int64_t tokens, Arena& arena)
      : segment(held(op, z, tokens)),
        chunk(z.d_state, z.headdim, arena.take(DecayGradient::floats(z.d_state, z.headdim))),
        steps(arena, tokens_of_chunk(z) + 1),
        states(arena.take(segment * DecayGradient::state_floats(z.d_state, z.headdim))) {
    const int64_t per = tokens_of_chunk(z), rows = per * z.rank;
    theta = arena.take(z.s), sine = arena.take(per * z.s), cosine = arena.take(per * z.s);
    channels = arena.take(z.n), v = arena.take(rows * z.p), e = arena.take(rows * z.rank), dz = arena.take(z.p);
    of_v = arena.take(z.rank * z.rank), of_k = arena.take(z.rank * z.rank);
    k_before = arena.take(z.rank * z.n), v_before = arena.take(z.rank * z.p), dv_before = arena.take(z.p);
  }
  static int64_t floats(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    const int64_t per = tokens_of_chunk(z), rows = per * z.rank;
    return DecayGradient::floats(z.d_state, z.headdim) +
           held(op, z, tokens) * DecayGradient::state_floats(z.d_state, z.headdim) + Steps::floats(per + 1) +
           (1 + 2 * per) * z.s + (1 + z.rank) * z.n + (rows + z.rank + 2) * z.p + (rows + 2 * z.rank) * z.rank +
           16 * 16;
  }

 private:
  static int64_t held(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    const int64_t per = tokens_of_chunk(z);
    const bool kept = kept_states::fit(op.states, z.d_state);
    return kept ? kept_states::kEvery / per : std::max<int64_t>(1, ceil_div(tokens, per));
  }
};

}  // namespace statespace::STATESPACE_ISA::mamba3
