#include "ops/ssd.h"

#include <algorithm>

#include "backend/kernels.h"
#include "kernels/kept_rows.h"
#include "kernels/ssd_bf16.h"
#include "kernels/ssd_chunk.h"

namespace statespace::STATESPACE_ISA {

void ssd::recurrent(const Ssd& op, const Sizes& z, int64_t head, int64_t begin, int64_t end, float* state, Arena arena,
                    const Context& cx) {
  const int64_t at = z.group(head) * z.d_state;
  float *B_copy = arena.take(z.d_state), *C_copy = arena.take(z.d_state), *x_copy = arena.take(z.headdim);
  float* out = arena.take(z.headdim);
  Times times(arena.take(Times::floats(1)), 1);
  for (int64_t t = begin; t < end; ++t) {
    cx.check_stop();
    times.fill(op, head, t, 1);
    const float *B = f32_row(op.B, t, at, z.d_state, B_copy), *C = f32_row(op.C, t, at, z.d_state, C_copy);
    const float* x = f32_row(op.x, t, head * z.headdim, z.headdim, x_copy);
    alignas(64) float decays[kLanes];
    store(decays, times.decay_from_start(0));
    const F decay = set(decays[0]);
    for (int64_t p = 0; p < z.headdim; ++p) {
      float* h = state + p * z.d_state;
      const F u = set(times.dt[0] * x[p]);
      F y = zero();
      auto states = [&](int64_t n, auto... count) {
        const F next = fma(u, load(B + n, count...), decay * load(h + n, count...));
        store(h + n, next, count...);
        y = fma(next, load(C + n, count...), y);
      };
      int64_t n = 0;
      for (; n + kLanes <= z.d_state; n += kLanes) states(n);
      if (n < z.d_state) states(n, int(z.d_state - n));
      out[p] = sum(y);
    }
    finish_rows(op, z, head, t, 1, out);
  }
}

namespace {

using namespace ssd;

// 64 measured fastest: chunks of 128 cost 6 % more, of 256 26 %.
constexpr int64_t kChunk = 64;
// Heads that share one chunk's B·Cᵀ; their states stay in L2.
constexpr int64_t kHeads = 12;
// Below this, steps cost less than bringing the state into the products' layout.
constexpr int64_t kShort = 16;

// Scratch of one chunk or tile.
struct Buffers {
  float *B, *Ct, *G, *M, *X, *W, *out, *decay;
  Buffers(const Sizes& z, Arena& arena)
      : B(arena.take(z.q * z.n)),
        Ct(arena.take(z.d_state * z.q)),
        G(arena.take(z.q * z.q)),
        M(arena.take(z.q * z.q)),
        X(arena.take(z.q * z.p)),
        W(arena.take(z.q * z.p)),
        out(arena.take(z.q * z.p)),
        decay(arena.take(z.q)) {}
  static int64_t floats(const Sizes& z) {
    return z.q * z.n + z.d_state * z.q + 2 * z.q * z.q + 3 * z.q * z.p + z.q + 160;
  }
};

void read_keys(const Ssd& op, const Sizes& z, int64_t group, int64_t token, int64_t count, Buffers& b) {
  ssd::copy_rows(op.B, token, count, group * z.d_state, z.d_state, b.B, z.n);
}
void read_queries(const Ssd& op, const Sizes& z, int64_t group, int64_t token, int64_t count, Buffers& b, float* rows) {
  ssd::copy_rows(op.C, token, count, group * z.d_state, z.d_state, rows, z.n);
  transpose(rows, z.n, z.d_state, count, b.Ct, z.q, z.q);
}

// Heads [head, head + heads) of one group over one sequence.
void chunked(const Ssd& op, const Sizes& z, int64_t head, int64_t heads, int64_t begin, int64_t end, float* state,
             Arena arena, const Context& cx) {
  Buffers b(z, arena);
  Times times(arena.take(Times::floats(z.chunk)), z.chunk);
  float* S = arena.take(heads * z.n * z.p);
  const int64_t state_size = z.headdim * z.d_state, group = z.group(head);
  for (int64_t h = 0; h < heads; ++h) load_state(z, state + h * state_size, S + h * z.n * z.p);

  const bool keeps = op.keeps();
  for (int64_t t = begin, count; t < end; t += count) {
    cx.check_stop();
    count = std::min({z.chunk, end - t, kept_states::kEvery - (t - begin) % kept_states::kEvery});
    for (int64_t h = 0; keeps && kept_states::has(begin, t) && h < heads; ++h)
      keep_rows(S + h * z.n * z.p, z.p, z.d_state, z.headdim, op.states, t, head + h);
    read_queries(op, z, group, t, count, b, b.B);
    read_keys(op, z, group, t, count, b);
    group_scores(z, b.B, b.Ct, count, count, true, b.G);
    for (int64_t h = 0; h < heads; ++h) {
      float* Sh = S + h * z.n * z.p;
      times.fill(op, head + h, t, count);
      store_from_start(times, 0, count, b.decay);
      scale_inputs(op, z, head + h, t, 0, count, times, count - 1, b.X, b.W);
      mask_scores(z, b.G, times, 0, count, 0, count, b.M);
      const bool same = h + 1 < heads;
      const NextRows next{&op, same ? t : t + count,
                          same                        ? count
                          : end - t - count < z.chunk ? end - t - count
                                                      : z.chunk,
                          head + (same ? h + 1 : 0)};
      read_state(z, b.Ct, Sh, b.decay, count, b.out, next);
      read_inputs(z, b.M, b.X, count, count, true, b.out);
      update_state(z, b.B, b.W, count, b.decay[count - 1], Sh);
      finish_rows(op, z, head + h, t, count, b.out);
    }
  }
  for (int64_t h = 0; h < heads; ++h) store_state(z, S + h * z.n * z.p, state + h * state_size);
}

// One tile of queries of one head against the initial state and all keys up to it. `times` starts with the sequence.
void quadratic_rows(const Ssd& op, const Sizes& z, int64_t head, int64_t begin, int64_t first, int64_t count,
                    const Times& times, const float* state, Arena arena, const Context& cx) {
  Buffers b(z, arena);
  float* S = arena.take(z.n * z.p);
  const int64_t group = z.group(head);
  load_state(z, state, S);
  read_queries(op, z, group, begin + first, count, b, b.B);
  store_from_start(times, first, count, b.decay);
  read_state(z, b.Ct, S, b.decay, count, b.out);
  for (int64_t s = 0; s <= first; s += z.chunk) {
    cx.check_stop();
    const bool diagonal = s == first;
    const int64_t keys = diagonal ? count : z.chunk;
    read_keys(op, z, group, begin + s, keys, b);
    group_scores(z, b.B, b.Ct, keys, count, diagonal, b.G);
    mask_scores(z, b.G, times, s, keys, first, count, b.M);
    scale_inputs(op, z, head, begin + s, s, keys, times, s + keys - 1, b.X, b.W);
    read_inputs(z, b.M, b.X, keys, count, diagonal, b.out);
  }
  finish_rows(op, z, head, begin + first, count, b.out);
}

// S = exp(Σ dt·A) S + Σ_s exp(Σ_{i>s} dt_i A) dt_s x_s B_sᵀ over a whole sequence.
void quadratic_state(const Ssd& op, const Sizes& z, int64_t head, int64_t begin, int64_t length, const Times& times,
                     float* state, Arena arena, const Context& cx) {
  Buffers b(z, arena);
  float* S = arena.take(z.n * z.p);
  load_state(z, state, S);
  alignas(64) float decay[kLanes];
  const int64_t last = (length - 1) / kLanes * kLanes;
  store(decay, times.decay_from_start(last));
  float shrink = decay[length - 1 - last];
  for (int64_t s = 0; s < length; s += z.chunk, shrink = 1) {
    cx.check_stop();
    const int64_t keys = length - s < z.chunk ? length - s : z.chunk;
    read_keys(op, z, z.group(head), begin + s, keys, b);
    scale_inputs(op, z, head, begin + s, s, keys, times, length - 1, b.X, b.W);
    update_state(z, b.B, b.W, keys, shrink, S);
  }
  store_state(z, S, state);
}

void run_quadratic(const Ssd& op, const Sizes& z, const Sequences& sequences, Context& cx) {
  const int64_t floats = Buffers::floats(z) + z.n * z.p + 16;
  // The times of each head and sequence, one behind the other.
  const int64_t per_head = 3 * (op.x[0] + 2 * kLanes * sequences.count);
  float* all_times = cx.shared<float>(z.nheads * per_head);
  auto times_of = [&](int64_t head, int64_t s) {
    const int64_t begin = sequences.begin(s);
    return Times(all_times + head * per_head + 3 * (begin + 2 * kLanes * s), sequences.end(s) - begin);
  };
  auto state_of = [&](int64_t head, int64_t s) {
    return op.state.row(sequences.slot(s)) + head * z.headdim * z.d_state;
  };
  cx.parallel_for(sequences.count * z.nheads, [&](int64_t i, int) {
    const int64_t s = i / z.nheads, head = i % z.nheads, length = sequences.end(s) - sequences.begin(s);
    if (length) times_of(head, s).fill(op, head, sequences.begin(s), length);
  });
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), length = sequences.end(s) - begin, tiles = ceil_div(length, z.chunk);
    cx.parallel_for(tiles * z.nheads, [&](int64_t i, int worker) {
      const int64_t head = i % z.nheads, first = (tiles - 1 - i / z.nheads) * z.chunk;  // the longest rows first
      const int64_t count = length - first < z.chunk ? length - first : z.chunk;
      quadratic_rows(op, z, head, begin, first, count, times_of(head, s), state_of(head, s),
                     {cx.local<float>(worker, floats)}, cx);
    });
  }
  cx.parallel_for(sequences.count * z.nheads, [&](int64_t i, int worker) {
    const int64_t s = i / z.nheads, head = i % z.nheads, length = sequences.end(s) - sequences.begin(s);
    if (length)
      quadratic_state(op, z, head, sequences.begin(s), length, times_of(head, s), state_of(head, s),
                      {cx.local<float>(worker, floats)}, cx);
  });
}

// Whole sequences by steps or by chunks, whichever suits their length.
void run_scan(const Ssd& op, const Sizes& z, const Sequences& sequences, int64_t shortest_chunked, Context& cx) {
  const int64_t per_group = z.nheads / z.ngroups;
  // Twice as many pieces as threads, so that the end is shared; a head's numbers do not depend on its neighbours.
  const int64_t wanted = ceil_div(2 * cx.threads(), sequences.count * z.ngroups);
  int64_t heads = ceil_div(per_group, wanted < per_group ? wanted : per_group);
  if (heads > kHeads) heads = kHeads;
  const int64_t blocks = ceil_div(per_group, heads), pieces = z.ngroups * blocks;
  const int64_t chunk_floats = Buffers::floats(z) + Times::floats(z.chunk) + heads * z.n * z.p + 32;
  const bool bf16 = multiplies_bf16(op) && !op.keeps();
  const int64_t step_floats = recurrent_floats(z);
  cx.parallel_stretches(sequences.count * pieces, [&](int64_t i, int worker) {
    const int64_t s = i / pieces, group = i % pieces / blocks, first = i % blocks * heads;
    const int64_t begin = sequences.begin(s), end = sequences.end(s), head = group * per_group + first;
    const int64_t count = per_group - first < heads ? per_group - first : heads;
    float* state = op.state.row(sequences.slot(s)) + head * z.headdim * z.d_state;
    if (bf16 && end - begin >= shortest_chunked)
      return chunked_bf16(op, z, head, count, begin, end, state,
                          {cx.local<float>(worker, bf16_floats(z, heads, cx.tiles))}, cx);
    const Arena arena{cx.local<float>(worker, chunk_floats > step_floats ? chunk_floats : step_floats)};
    if (end - begin >= shortest_chunked) return chunked(op, z, head, count, begin, end, state, arena, cx);
    for (int64_t h = 0; h < count; ++h)
      recurrent(op, z, head + h, begin, end, state + h * z.headdim * z.d_state, arena, cx);
  });
}

}  // namespace

template <>
void run(const Ssd& op, Context& cx) {
  const Sizes sizes(op, op.chunk_size < kChunk ? op.chunk_size : kChunk);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  if (sequences.count == 0 || sizes.nheads == 0) return;
  if (op.keeps()) return run_scan(op, sizes, sequences, kShort, cx);
  switch (static_cast<SsdMode>(op.mode)) {
    case SsdMode::chunked:
      return run_scan(op, sizes, sequences, kShort, cx);
    case SsdMode::recurrent:
      return run_scan(op, sizes, sequences, INT64_MAX, cx);
    case SsdMode::quadratic:
      return run_quadratic(op, sizes, sequences, cx);
  }
}

}  // namespace statespace::STATESPACE_ISA
