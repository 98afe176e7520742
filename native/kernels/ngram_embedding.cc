#include "ops/ngram_embedding.h"

#include "backend/kernels.h"
#include "kernels/matmul.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

uint64_t integer(const float* words) {
  uint64_t n = 0;
  for (int i = 3; i >= 0; --i) n = n << 16 | uint64_t(words[i]);
  return n;
}

}  // namespace

template <>
void run(const NgramEmbedding& op, Context& cx) {
  const int64_t gram = op.multipliers[0], width = op.weight[1], rows = op.weight[0];
  const int32_t* ids = op.ids.i32();
  uint64_t multipliers[16];
  for (int64_t s = 0; s < gram; ++s) multipliers[s] = integer(op.multipliers.row(s));
  const Sequences sequences(op.cu_seqlens, op.slots, op.ids[0]);
  cx.parallel_for(sequences.count, [&](int64_t i, int) {
    const int64_t begin = sequences.begin(i), end = sequences.end(i);
    if (begin == end) return;
    float* state = op.state.row(sequences.slot(i));
    // The token s before t: of this call, or of the state, or -1.
    auto before = [&](int64_t t, int64_t s) -> int64_t {
      return t - s >= begin ? ids[t - s] : int64_t(state[s - (t - begin) - 1]) - 1;
    };
    for (int64_t t = begin; t < end; ++t) {
      uint64_t hash = uint64_t(ids[t]) * multipliers[0];
      bool ended = false;
      for (int64_t s = 1; s < gram; ++s) {
        const int64_t id = ended ? -1 : before(t, s);
        ended = ended || id < 0 || id == op.eos;
        hash ^= uint64_t(ended ? op.eos : id) * multipliers[s];
        for (int64_t j = (s - 1) * op.per_gram; j < s * op.per_gram; ++j) {
          const int64_t size = int64_t(integer(op.sizes.row(j)));
          const int64_t rest = size > 0 ? int64_t(hash) % size : 0;
          const int64_t row = (rest < 0 ? rest + size : rest) + int64_t(integer(op.offsets.row(j)));
          // A table that its own offsets do not fit must not be read past its end.
          weight_row(op.weight, row < 0 ? 0 : row < rows ? row : rows - 1, op.y.row(t) + j * width);
        }
      }
    }
    float last[16];
    for (int64_t s = 0; s < gram - 1; ++s) last[s] = float(before(end, s + 1) + 1);
    for (int64_t s = 0; s < gram - 1; ++s) state[s] = last[s];
  });
}

}  // namespace statespace::STATESPACE_ISA
