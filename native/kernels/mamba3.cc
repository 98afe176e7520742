#include "ops/mamba3.h"

#include <algorithm>
#include <bit>

#include "backend/kernels.h"
#include "kernels/head_panels.h"
#include "kernels/mamba3_recurrent.h"
#include "kernels/row_dots.h"
#include "kernels/streamed_rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace mamba3;

// Rows (token, rank) of a group, about as many as fill whole tiles: of fewer the state is scaled more often than pairs
// are saved, of more there are more pairs.
constexpr int64_t kGroupRows = kRows == 6 ? 16 : kRows;
// Whether the registers hold two vectors of each of them.
constexpr bool kHeld = kRows == kGroupRows;
// Groups that go through a panel of the state while it lies in the first-level cache.
// The tokens of so many are no more than lie between states that are kept.
constexpr int64_t kGroups = kept_states::kEvery / kGroupRows;
// Above this a chunk's groups leave their decay of the state to its end: they add what that will make theirs.
constexpr float kLeastDecay = 0x1p-24f;
// Heads that share a chunk's B and C; their states stay in L2.
constexpr int64_t kHeads = 12;
// Below this, steps cost less than bringing the state into the products' layout.
constexpr int64_t kShortest = 8;

// Inside a group of tokens, with S_0 at its start (what the token before it carries over added), D_ts the product of
// the α of tokens s+1 … t, D_t of all up to t, and w_s = own_s + carried_{s+1}:
//   y_t = D_t S_0 c_t + Σ_{s<t} D_ts w_s (c_t·k_s) v_s + own_t (c_t·k_t) v_t
//   S_n = D_n S_0 + Σ_{s≤n} D_ns w_s v_s k_sᵀ, w_n = own_n where no token follows
// each row of a token with each of the other. S lies transposed, (d_state, headdim), in panels. A chunk is some groups,
// of which most leave S undecayed: 1 of 9 operations on it with 8 rows.
struct Chunk {
  Chunk(const Mamba3& op, const Sizes& z, int64_t heads, Arena& arena)
      : op(op),
        z(z),
        group_tokens(tokens_of_group(op, z)),
        width(width_of(op, z)),
        apart(apart_of(z)),
        tokens(chunk_tokens(op, z)),
        streamed(streams_rows({&op.outputs}, {z.headdim})),
        weights(arena, z, heads),
        steps(arena, tokens + 1),
        S(arena.take(heads * panels_floats(z.d_state, z.headdim))),
        theta(arena.take(heads * z.s)),
        rates(arena.take(tokens * z.s)),
        sine(arena.take(z.s)),
        cosine(arena.take(z.s)),
        k_before(arena.take(heads * z.rank * z.n)),
        v_before(arena.take(z.rank * z.p)) {
    const int64_t rows = rows_of_chunk(op, z);
    B = arena.take(rows * z.n), C = arena.take(rows * z.n);
    k = arena.take(rows * apart), c = arena.take(rows * apart);
    pairs = arena.take(rows * width), decay = arena.take(tokens * width), to_end = arena.take(tokens * width);
    v = arena.take(rows * z.p), out = arena.take(rows * z.p), written = arena.take(rows * kPanel);
    from_start = arena.take(rows), decays = arena.take(kGroups);
    unit = arena.take(2 * width + kLanes) + width;
    clear(unit - width, 2 * width + kLanes);
    for (int64_t r = 0; r < z.rank; ++r) unit[r] = 1;
  }
  static int64_t floats(const Mamba3& op, const Sizes& z, int64_t heads) {
    const int64_t tokens = chunk_tokens(op, z), width = width_of(op, z), rows = rows_of_chunk(op, z);
    return HeadWeights::floats(z, heads) + Steps::floats(tokens + 1) +
           heads * (panels_floats(z.d_state, z.headdim) + z.s) + (tokens + 2) * z.s + z.rank * (heads * z.n + z.p) +
           2 * rows * (z.n + apart_of(z)) + rows * width + 2 * tokens * width + rows * (2 * z.p + kPanel + 1) +
           2 * width + kLanes + kGroups + 16 * 21;
  }
  // Powers of two, so that chunks end where states are kept, whether any are.
  static int64_t whole(int64_t n) { return n < 1 ? 1 : int64_t(std::bit_floor(uint64_t(n))); }
  static int64_t tokens_of_group(const Mamba3& op, const Sizes& z) {
    return whole(std::min(kGroupRows / z.rank, op.chunk_size));
  }
  static int64_t chunk_tokens(const Mamba3& op, const Sizes& z) {
    const int64_t group = tokens_of_group(op, z);
    return std::min(kGroups, whole(op.chunk_size / group)) * group;
  }
  // Of a row of pairs in a group: whole vectors and blocks of dot products.
  static int64_t width_of(const Mamba3& op, const Sizes& z) {
    return padded(ceil_div(tokens_of_group(op, z) * z.rank, kDotRows) * kDotRows);
  }
  // From a row of k and c to the next: a line more than they have, as rows a power of two apart fall on few of a
  // cache's sets, and eight of them are read at once.
  static int64_t apart_of(const Sizes& z) { return z.n + 64 / int64_t(sizeof(float)); }
  // With room for the tile that begins with the last group's last rows.
  static int64_t rows_of_chunk(const Mamba3& op, const Sizes& z) {
    return whole_tiles(chunk_tokens(op, z) * z.rank) + kRows;
  }

  // What all heads of the group of heads share. MIMO's B and C are rotated from where they lie.
  void read(int64_t group, int64_t begin, int64_t n) {
    for (int64_t t = 0; t < n && !z.mimo; ++t) {
      z.ordered(op.B.row(begin + t) + group * z.d_state, B + t * z.n);
      z.ordered(op.C.row(begin + t) + group * z.d_state, C + t * z.n);
    }
    for (int64_t t = 0; t < n && op.angles.rank == 2; ++t) rates_of(op, z, 0, begin + t, rates + t * z.s);
  }

  // Of head `head`, the i-th.
  void read_weights(int64_t i, int64_t head) { weights.read(op, z, head, i); }
  float* state_of(int64_t i) const { return S + i * panels_floats(z.d_state, z.headdim); }
  void read_state(int64_t i, const HeadState& state) {
    each_panel(state_of(i), z.d_state, z.headdim, [&]<int N>(int64_t column, float* panel) {
      const int64_t count = z.headdim - column < kPanel ? z.headdim - column : kPanel;
      for (int64_t n = 0; n < z.d_state; ++n, panel += kPanel) {
        const float* from = state.ssm + column * z.d_state + z.channel(n);
        for (int64_t p = 0; p < count; ++p) panel[p] = from[p * z.d_state];
        clear(panel + count, kPanel - count);
      }
    });
    read_rows(state.angle, 1, z.angles, theta + i * z.s, z.s);
    for (int64_t r = 0; r < z.rank; ++r) z.ordered(state.k + r * state.k_stride, k_before + (i * z.rank + r) * z.n);
  }
  // Behind token `end`.
  void write_state(int64_t i, int64_t head, int64_t end, const HeadState& state) const {
    each_panel(state_of(i), z.d_state, z.headdim, [&]<int N>(int64_t column, const float* panel) {
      const int64_t count = z.headdim - column < kPanel ? z.headdim - column : kPanel;
      for (int64_t n = 0; n < z.d_state; ++n, panel += kPanel) {
        float* to = state.ssm + column * z.d_state + z.channel(n);
        for (int64_t p = 0; p < count; ++p) to[p * z.d_state] = panel[p];
      }
    });
    copy_row(theta + i * z.s, state.angle, z.angles);
    for (int64_t r = 0; r < z.rank; ++r) z.restored(k_before + (i * z.rank + r) * z.n, state.k + r * state.k_stride);
    copy_row(op.x.row(end - 1) + head * z.headdim, state.v, z.headdim);
  }

  // What the token before `token` carries over, x_before its x, joins the state: chunks leave that to their last token.
  void carry(int64_t i, int64_t head, int64_t token, const float* x_before) {
    steps.fill(op, head, token, 1);
    inputs(op, z, head, x_before, v_before);
    each_panel(state_of(i), z.d_state, z.headdim, [&]<int N>(int64_t column, float* panel) {
      each_tile_of_panel<N>(z.d_state, [&](auto place) {
        Tile tile(place);
        tile.add(z.rank, {k_before + i * z.rank * z.n, 1, z.n}, v_before + column, z.p);
        tile.scale(steps.carried[0]);
        tile.each([&](int a, int b, F& x) { x = x + load(tile.place(panel, a, b, kPanel)); });
        tile.write(panel, kPanel);
      });
    });
  }

  // Tokens [begin, begin + n) of head `head`, whose state is the i-th; another token follows in the sequence if there
  // is `more`.
  void step(int64_t i, int64_t head, int64_t begin, int64_t n, bool more, const Ahead& next) {
    const int64_t rows = n * z.rank;
    prepare(i, head, begin, n, more);
    each_group(n, [&](int64_t t, int64_t m) { pairs_of(t, m, head); });
    Fetch fetch = rows_of(next, begin);
    each_panel(state_of(i), z.d_state, z.headdim,
               [&]<int N>(int64_t column, float* panel) { columns<N>(n, begin, head, column, panel, fetch); });
    fetch.rest();
    for (int64_t t = 0; t < n && !gated_in_tiles(); ++t) {
      if (op.outputs) keep_outputs(op, z, head, begin + t, out + t * z.rank * z.p, streamed);
      finish(op, z, head, begin + t, out + t * z.rank * z.p);
    }
    if (op.outputs && streamed) end_streams();
    for (int64_t r = 0; r < z.rank; ++r)
      copy_row(k + (rows - z.rank + r) * apart, k_before + (i * z.rank + r) * z.n, z.n);
  }

  // fn(first token, tokens) for the groups of n tokens.
  template <class Fn>
  void each_group(int64_t n, Fn&& fn) const {
    for (int64_t t = 0; t < n; t += group_tokens) fn(t, std::min(group_tokens, n - t));
  }

  // The rows of the next step; this one's tokens begin at `begin`.
  Fetch rows_of(const Ahead& next, int64_t begin) const {
    Fetch fetch(next);
    for (const Tensor* rows : {&op.x, &op.y, &op.z}) fetch.add(*rows, next.head * z.headdim, z.headdim);
    if (next.begin == begin) return fetch;
    // Where groups of heads are several, a rank's rows lie apart, and only the first is fetched.
    const int64_t width = z.ngroups == 1 ? z.rank * z.d_state : z.d_state;
    for (const Tensor* rows : {&op.B, &op.C}) fetch.add(*rows, z.group(next.head) * z.d_state, width);
    return fetch;
  }

  // pairs (row, row of s) = D_ts w_s c·k for s < t, own_t c·k + D on the diagonal for s = t, of m tokens from t on.
  [[gnu::flatten]] void pairs_of(int64_t t, int64_t m, int64_t head) {
    const int64_t first = t * z.rank, rows = m * z.rank;
    float* to = pairs + first * width;
    for (int64_t row = 0; row < rows; row += kDotRows) {
      const int64_t last = std::min(row + kDotRows, rows) - 1, seen = (last / z.rank + 1) * z.rank;
      for (int64_t column = 0; column < seen; column += kDotColumns)
        block_of_dots(c + (first + row) * apart, k + (first + column) * apart, z.n, apart, to + row * width + column,
                      width);
    }
    const float skip = op.D ? op.D.f32()[head] : 0;
    for (int64_t row = 0; row < rows; ++row) {
      const float* of_token = decay + (t + row / z.rank) * width;
      for (int64_t i = 0; i < width; i += kLanes)
        store(to + row * width + i, load(to + row * width + i) * load(of_token + i));
      to[row * (width + 1)] += skip;
    }
  }

  // Whether a row of `out` is a row of y but for the gate, so that it goes there at once.
  bool gated_in_tiles() const { return !z.mimo && !op.norm_weight && z.headdim % kPanel == 0; }

  // The chunk's part in the panel of S from `column` on, and those columns of `out` or y.
  template <int N>
  [[gnu::flatten]] void columns(int64_t n, int64_t begin, int64_t head, int64_t column, float* S, Fetch& fetch) {
    const int64_t stride = z.p, at = head * z.headdim + column;
    each_group(n, [&](int64_t t, int64_t m) {
      const int64_t first = t * z.rank, rows = m * z.rank;
      const float *v = this->v + first * stride + column, *from_start = this->from_start + first;
      each_tile_of_panel<N>(rows, [&](auto place) {
        Tile tile(place);
        tile.add(z.d_state, {c + first * apart, apart, 1}, S, kPanel, [&] { fetch.line(); });
        tile.scale_rows(from_start);
        const Strided of_rows{pairs + first * width, width, 1};
        if (z.rank == 1)
          tile.add_lower(of_rows, v, stride);
        else if (z.rank == 2)
          tile.template add_lower<0, 2>(of_rows, v, stride);
        else if (z.rank == 4 && kRows % 4 == 0)
          tile.template add_lower<0, 4>(of_rows, v, stride);
        else
          tile.add_lower_blocks(z.rank, of_rows, v, stride);
        if (!gated_in_tiles()) return tile.write(out + first * stride + column, stride);
        if (op.outputs) tile.write(op.outputs.row(begin + t) + at, op.outputs.row_stride);
        if (op.z)
          tile.each([&](int a, int b, F& x) {
            if (a < place.rows) x = x * silu(load(tile.place(op.z.row(begin + t) + at, a, b, op.z.row_stride)));
          });
        tile.write(op.y.row(begin + t) + at, op.y.row_stride);
      });
      const float *factors = to_end + t / group_tokens * width, decay = decays[t / group_tokens];
      if constexpr (kHeld)
        if (rows == kGroupRows)
          return decay == 1 ? add_group<N, false>(first, factors, column, decay, S)
                            : add_group<N, true>(first, factors, column, decay, S);
      for (int64_t row = 0; row < rows; ++row)
        for (int j = 0; j < N; ++j)
          store(written + row * kPanel + j * kLanes, set(factors[row]) * load(v + row * stride + j * kLanes));
      each_tile_of_panel<N>(z.d_state, [&](auto place) {
        Tile tile(place);
        tile.read(S, kPanel);
        if (decay != 1) tile.scale(decay);
        tile.add(rows, {k + first * apart, 1, apart}, written, kPanel);
        tile.write(S, kPanel);
      });
    });
  }

  // S = decay S + what a whole group's rows of v, from `first` on, write to it: they stay in registers for all of its
  // rows, as many sums of a tile wait for its last loads and stores (a tenth of the time).
  template <int N, bool kDecays>
  [[gnu::always_inline]] void add_group(int64_t first, const float* factors, int64_t column, float decay, float* S) {
    Block<N> written[kGroupRows];
#pragma GCC unroll 8
    for (int s = 0; s < kGroupRows; ++s) written[s] = set(factors[s]) * load_block<N>(v + (first + s) * z.p + column);
    const int64_t stride = apart, rows = z.d_state;
    const float* from = k + first * stride;
    for (int64_t i = 0; i < rows; ++i, ++from, S += kPanel) {
      Block<N> state = load_block<N>(S);
      if constexpr (kDecays) state = set(decay) * state;
#pragma GCC unroll 8
      for (int s = 0; s < kGroupRows; ++s) state = fma(set(from[s * stride]), written[s], state);
      store_block(S, state);
    }
  }

  // Steps, rows of k, c and v, and each group's decays: decay (t, row of s) is D_ts w_s for s < t, own_t for s = t; and
  // by the decay that S is still to get, from_start (row of t) times it D_t, to_end (row of s) D_ns w_s over it, where
  // w_n is own_n in the last chunk.
  [[gnu::flatten]] void prepare(int64_t i, int64_t head, int64_t begin, int64_t n, bool more) {
    steps.fill(op, head, begin, n + more);
    for (int64_t t = 0; t < n; ++t) {
      if (op.angles.rank == 3) rates_of(op, z, head, begin + t, rates + t * z.s);
      turn(z, rates + t * z.s, steps.dt[t], theta + i * z.s, sine, cosine);
      for (int64_t r = 0; r < z.rank; ++r) {
        const int64_t row = (t * z.rank + r) * apart, at = (r * z.ngroups + z.group(head)) * z.d_state;
        if (z.mimo) {
          rotate<true>(z, op.B.row(begin + t) + at, weights.of_B(i, r), sine, cosine, k + row);
          rotate<true>(z, op.C.row(begin + t) + at, weights.of_C(i, r), sine, cosine, c + row);
        } else {
          rotate(z, B + t * z.n, weights.of_B(i, r), sine, cosine, k + row);
          rotate(z, C + t * z.n, weights.of_C(i, r), sine, cosine, c + row);
        }
      }
      inputs(op, z, head, op.x.row(begin + t) + head * z.headdim, v + t * z.rank * z.p);
    }
    float total = 1;  // the decay that S is still to get
    each_group(n, [&](int64_t first, int64_t m) {
      for (int64_t t = first; t < first + m; ++t) {
        total *= steps.alpha[t];
        for (int64_t r = 0; r < z.rank; ++r) from_start[t * z.rank + r] = total;
      }
      const bool later = first + m < n && total >= kLeastDecay && total <= 1 / kLeastDecay;
      const F left = set(later ? 1 / total : 1);
      decays[first / group_tokens] = later ? 1 : total;
      if (!later) total = 1;
      for (int64_t s = 0; s < width; s += kLanes) {
        F row = zero();
        for (int64_t t = first; t < first + m; ++t) {
          const F here = load(unit + s - (t - first) * z.rank);
          row = set(steps.alpha[t]) * row;
          store(decay + t * width + s, fma(set(steps.own[t]), here, row));
          row = fma(set(steps.own[t] + (t + 1 < n + more ? steps.carried[t + 1] : 0)), here, row);
        }
        store(to_end + first / group_tokens * width + s, left * row);
      }
    });
  }

  const Mamba3& op;
  const Sizes& z;
  const int64_t group_tokens, width, apart, tokens;  // of a group; rows of one, padded; of k and c; of a chunk
  const bool streamed;                               // outputs are
  HeadWeights weights;
  Steps steps;
  float *S, *theta;              // (heads, d_state, headdim), (heads, angles)
  float *rates, *sine, *cosine;  // (tokens, angles), (angles)
  float *k_before, *v_before;    // (heads, rank, d_state), (rank, headdim): of the token before
  float *B, *C, *k, *c;          // (rows, d_state)
  float* pairs;                  // (rows, width)
  float *decay, *to_end;         // (tokens, width), (groups, width)
  float *v, *out;                // (rows, headdim)
  float* written;                // (rows, kPanel): v as the state behind the chunk takes it
  float *from_start, *decays;    // (rows), (groups): what the group's end makes of S
  float* unit;                   // zeros around `rank` ones: row t of a unit matrix of tokens begins at -t·rank
};

}  // namespace

template <>
void run(const Mamba3& op, Context& cx) {
  const Sizes z(op);
  const Sequences sequences(op.cu_seqlens, op.slots, op.x[0]);
  if (sequences.count == 0 || z.nheads == 0) return;
  const int64_t per_group = z.nheads / z.ngroups;
  // Two heads gain by a chunk's B and C that they share. A head's numbers do not depend on its neighbours.
  const int64_t heads = heads_of_piece(per_group, sequences.count * z.ngroups, cx.threads(), kHeads, 2);
  const int64_t blocks = ceil_div(per_group, heads), pieces = z.ngroups * blocks;
  const int64_t tokens = Chunk::chunk_tokens(op, z);
  const int64_t chunk_floats = Chunk::floats(op, z, heads), step_floats = recurrent_floats(z);
  cx.parallel_for(sequences.count * pieces, [&](int64_t i, int worker) {
    const int64_t s = i / pieces, group = i % pieces / blocks, first = group * per_group + i % blocks * heads;
    const int64_t begin = sequences.begin(s), end = sequences.end(s), slot = sequences.slot(s);
    const int64_t left = (group + 1) * per_group - first, count = left < heads ? left : heads;
    Arena arena{cx.local<float>(worker, chunk_floats > step_floats ? chunk_floats : step_floats)};
    if (!op.chunked() || end - begin < kShortest) {
      for (int64_t h = 0; h < count; ++h)
        recurrent(op, z, first + h, begin, end, HeadState(op, z, slot, first + h), arena, cx);
      return;
    }
    Chunk chunk(op, z, heads, arena);
    for (int64_t h = 0; h < count; ++h) {
      const HeadState state(op, z, slot, first + h);
      chunk.read_weights(h, first + h);
      chunk.read_state(h, state);
      chunk.carry(h, first + h, begin, state.v);
    }
    each_chunk(cx, sequences, s, tokens, [&](int64_t from, int64_t n) {
      chunk.read(group, from, n);
      const int64_t after = from + n, then = after + tokens < end ? after + tokens : end;
      for (int64_t h = 0; op.keeps() && kept_states::has(begin, from) && h < count; ++h)
        write_panels(chunk.state_of(h), z.d_state, z.headdim, {0, z.headdim},
                     kept_states::at(op.states, from, first + h));
      for (int64_t h = 0; h < count; ++h)
        chunk.step(h, first + h, from, n, after < end,
                   h + 1 < count ? Ahead{from, after, first + h + 1} : Ahead{after, then, first});
    });
    for (int64_t h = 0; h < count; ++h) chunk.write_state(h, first + h, end, HeadState(op, z, slot, first + h));
  });
}

}  // namespace statespace::STATESPACE_ISA
