#pragma once
// SSD's chunks on bf16 inputs where the machine multiplies bf16 pairs (AVX-512-BF16, twice the rate of f32) or has a
// matrix unit. Sums, decays and states stay f32; what is rounded to bf16 are the operands of the products.
#include "core/tile_unit.h"
#include "kernels/ssd_chunk.h"

namespace statespace::STATESPACE_ISA::ssd {

// Scratch of one chunk. A pair is two bf16 of neighbouring tokens or states in 32 bits, the earlier one low.
struct Bf16Chunk {
  float *B, *Bt, *C, *G, *out, *decay, *left;
  uint32_t* C_pairs;            // (q, n / 2)
  uint32_t* B_pairs;            // (q / 2, n)
  uint32_t* S_pairs;            // (n / 2, p)
  uint32_t *X_pairs, *W_pairs;  // (q / 2, p)
  bf16_t* M;                    // (q, q)

  Bf16Chunk(const Sizes& z, Arena& arena)
      : B(arena.take(z.q * z.n)),
        Bt(arena.take(z.n * z.q)),
        C(arena.take(z.q * z.n)),
        G(arena.take(z.q * z.q)),
        out(arena.take(z.q * z.p)),
        decay(arena.take(z.q)),
        left(arena.take(z.q)),
        C_pairs(pairs(arena, z.q * z.n / 2)),
        B_pairs(pairs(arena, z.q * z.n / 2)),
        S_pairs(pairs(arena, z.n * z.p / 2)),
        X_pairs(pairs(arena, z.q * z.p / 2)),
        W_pairs(pairs(arena, z.q * z.p / 2)),
        M(reinterpret_cast<bf16_t*>(pairs(arena, z.q * z.q / 2))) {}
  static int64_t floats(const Sizes& z) {
    return 4 * z.q * z.n + 2 * z.q * z.q + 2 * z.q * z.p + z.n * z.p + 2 * z.q + 300 + Times::floats(z.chunk);
  }

 private:
  static uint32_t* pairs(Arena& arena, int64_t count) { return reinterpret_cast<uint32_t*>(arena.take(count)); }
};

#if defined(STATESPACE_ISA_AVX512)
// Whether chunked_bf16 takes this op, on this machine.
bool multiplies_bf16(const Ssd& op);

// Scratch of chunked_bf16.
int64_t bf16_floats(const Sizes& z, int64_t heads, TileUnit unit);

// Heads [head, head + heads) of one group over one sequence, as chunked() does with f32 products.
void chunked_bf16(const Ssd& op, const Sizes& z, int64_t head, int64_t heads, int64_t begin, int64_t end, float* state,
                  Arena arena, const Context& cx);
#else
inline bool multiplies_bf16(const Ssd&) { return false; }
inline int64_t bf16_floats(const Sizes&, int64_t, TileUnit) { return 0; }
inline void chunked_bf16(const Ssd&, const Sizes&, int64_t, int64_t, int64_t, int64_t, float*, Arena, const Context&) {}
#endif

}  // namespace statespace::STATESPACE_ISA::ssd
