#pragma once
// What the gradients of Mamba-3's heads share: memory, rows of their inputs, and sums.
#include <algorithm>

#include "kernels/mamba3_products.h"

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

// Memory that the heads of a piece of work use one after the other.
struct Workspace {
  int64_t segment;  // chunks whose states are held at once: between places where the forward kept one, or else all
  int64_t places;   // and those whose k and v are: the same, or else one
  ChunkProducts chunk;
  Steps steps;
  float* states;                           // (chunks of a segment, p, n)
  float *theta, *sine, *cosine;            // (s), (places, tokens of a chunk, s)
  float *k, *v;                            // (places, rows of a chunk, n), (…, p)
  float *channels, *row, *dz;              // (n), (n), (p)
  float *k_before, *v_before, *dv_before;  // (rank, n), (rank, p), (p)

  Workspace(const Mamba3Backward& op, const Sizes& z, int64_t tokens, Arena& arena)
      : segment(held(op, z, tokens)),
        places(keeps(op, z) ? segment : 1),
        chunk(z, arena),
        steps(arena, ChunkProducts::tokens_of_chunk(z) + 1),
        states(arena.take(segment * ChunkProducts::state_floats(z))) {
    const int64_t per = ChunkProducts::tokens_of_chunk(z), rows = places * ChunkProducts::row_count(z);
    theta = arena.take(z.s), sine = arena.take(places * per * z.s), cosine = arena.take(places * per * z.s);
    k = arena.take(rows * z.n), v = arena.take(rows * z.p);
    clear(k, rows * z.n), clear(v, rows * z.p);
    channels = arena.take(z.n), row = arena.take(z.n), dz = arena.take(z.p);
    k_before = arena.take(z.rank * z.n), v_before = arena.take(z.rank * z.p), dv_before = arena.take(z.p);
  }
  static int64_t floats(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    const int64_t per = ChunkProducts::tokens_of_chunk(z), segment = held(op, z, tokens);
    const int64_t places = keeps(op, z) ? segment : 1;
    return ChunkProducts::floats(z) + segment * ChunkProducts::state_floats(z) + Steps::floats(per + 1) +
           (1 + 2 * per * places) * z.s + (2 + z.rank) * z.n + (z.rank + 2) * z.p +
           places * ChunkProducts::row_count(z) * (z.n + z.p) + 16 * 16;
  }

 private:
  static bool keeps(const Mamba3Backward& op, const Sizes& z) { return kept_states::fit(op.states, z.d_state); }
  static int64_t held(const Mamba3Backward& op, const Sizes& z, int64_t tokens) {
    const int64_t per = ChunkProducts::tokens_of_chunk(z);
    return keeps(op, z) ? kept_states::kEvery / per : std::max<int64_t>(1, ceil_div(tokens, per));
  }
};

}  // namespace statespace::STATESPACE_ISA::mamba3
