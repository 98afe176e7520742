#include "ops/ngram_embedding.h"

#include <cstring>

#include "backend/kernels.h"
#include "kernels/column_sums.h"
#include "kernels/matmul.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

uint64_t integer(const float* words) {
  uint64_t n = 0;
  for (int i = 3; i >= 0; --i) n = n << 16 | uint64_t(words[i]);
  return n;
}

// The token s before t: of this call, or of the state, or -1.
int64_t before(const int32_t* ids, int64_t begin, int64_t t, int64_t s, const float* state) {
  if (t - s >= begin) return ids[t - s];
  return state ? int64_t(state[s - (t - begin) - 1]) - 1 : -1;
}

// fn(t, j, row): the row that head j reads for token t of a sequence's tokens [begin, end), `state` being those before
// them or null. Both ops have the same tensors.
template <class Op, class Fn>
void each_row(const Op& op, int64_t rows, int64_t begin, int64_t end, const float* state, Fn&& fn) {
  const int64_t gram = op.multipliers[0];
  const int32_t* ids = op.ids.i32();
  uint64_t multipliers[16];
  for (int64_t s = 0; s < gram; ++s) multipliers[s] = integer(op.multipliers.row(s));
  for (int64_t t = begin; t < end; ++t) {
    uint64_t hash = uint64_t(ids[t]) * multipliers[0];
    bool ended = false;
    for (int64_t s = 1; s < gram; ++s) {
      const int64_t id = ended ? -1 : before(ids, begin, t, s, state);
      ended = ended || id < 0 || id == op.eos;
      hash ^= uint64_t(ended ? op.eos : id) * multipliers[s];
      for (int64_t j = (s - 1) * op.per_gram; j < s * op.per_gram; ++j) {
        const int64_t size = int64_t(integer(op.sizes.row(j)));
        const int64_t rest = size > 0 ? int64_t(hash) % size : 0;
        const int64_t row = (rest < 0 ? rest + size : rest) + int64_t(integer(op.offsets.row(j)));
        // A table that its own offsets do not fit must not be read past its end.
        fn(t, j, row < 0 ? 0 : row < rows ? row : rows - 1);
      }
    }
  }
}

}  // namespace

template <>
void run(const NgramEmbedding& op, Context& cx) {
  const int64_t gram = op.multipliers[0], width = op.weight[1], rows = op.weight[0];
  const int32_t* ids = op.ids.i32();
  const Sequences sequences(op.cu_seqlens, op.slots, op.ids[0]);
  cx.parallel_for(sequences.count, [&](int64_t i, int) {
    const int64_t begin = sequences.begin(i), end = sequences.end(i);
    if (begin == end) return;
    float* state = op.state.row(sequences.slot(i));
    each_row(op, rows, begin, end, state,
             [&](int64_t t, int64_t j, int64_t row) { weight_row(op.weight, row, op.y.row(t) + j * width); });
    float last[16];
    for (int64_t s = 0; s < gram - 1; ++s) last[s] = float(before(ids, begin, end, s + 1, state) + 1);
    for (int64_t s = 0; s < gram - 1; ++s) state[s] = last[s];
  });
}

// A piece of work is a range of the table's rows over all tokens: no two write one place, and sums are in the order of
// tokens.
template <>
void run(const NgramEmbeddingBackward& op, Context& cx) {
  if (!op.dweight) return;
  const int64_t heads = op.sizes[0], rows = op.dweight[0], width = op.dweight[1];
  const Sequences sequences(op.cu_seqlens, Tensor(), op.ids[0]);
  int32_t* looked_up = cx.shared<int32_t>(op.ids[0] * heads);  // (tokens, heads)
  cx.parallel_for(sequences.count, [&](int64_t i, int) {
    each_row(op, rows, sequences.begin(i), sequences.end(i), nullptr,
             [&](int64_t t, int64_t j, int64_t row) { looked_up[t * heads + j] = int32_t(row); });
  });
  const int64_t pieces = std::min<int64_t>(64, rows);
  cx.parallel_for(pieces, [&](int64_t piece, int) {
    const int64_t first = piece * rows / pieces, end = (piece + 1) * rows / pieces;
    for (int64_t row = first; row < end && !op.accumulate; ++row)
      std::memset(op.dweight.row(row), 0, width * sizeof(float));
    for (int64_t t = 0; t < op.ids[0]; ++t) {
      cx.check_stop();
      for (int64_t j = 0; j < heads; ++j)
        if (const int64_t row = looked_up[t * heads + j]; row >= first && row < end)
          add_to(op.dweight.row(row), op.dy.row(t) + j * width, width);
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
