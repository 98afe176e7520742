#include "ops/ngram_embedding.h"
#include "runtime.h"
#include "tables.h"

namespace statespace::cuda {
namespace {

constexpr int kNgramThreads = 128, kLongestGram = 16;

// Four words of 16 bits, lowest first.
__device__ uint64_t integer(global<const float> words) {
  uint64_t n = 0;
  for (int i = 3; i >= 0; --i) n = n << 16 | uint64_t(words[i]);
  return n;
}

struct NgramIds {
  global<const int32_t> ids;
  Rows<float> state;
  Sequences sequences;

  // The token s before t in sequence `i`: of this call, or of the state, or -1.
  __device__ int64_t before(int i, int t, int s) const {
    const int begin = sequences.begin(i);
    return t - s >= begin ? ids[t - s] : int64_t(state[sequences.slot(i)][s - (t - begin) - 1]) - 1;
  }
};

template <class Table_>
struct NgramArgs {
  NgramIds tokens;
  Table_ table;
  Rows<const float> multipliers, sizes, offsets;
  Rows<float> y;
  int64_t rows, width, eos;
  int per_gram;
};

// A block copies the row of one head (blockIdx.y) of one token.
template <class Table_>
__global__ void __launch_bounds__(kNgramThreads, 8) ngram_rows(NgramArgs<Table_> a) {
  const int t = int(blockIdx.x), j = int(blockIdx.y), i = a.tokens.sequences.containing(t);
  uint64_t hash = uint64_t(a.tokens.ids[t]) * integer(a.multipliers[0]);
  bool ended = false;
  for (int s = 1; s <= j / a.per_gram + 1; ++s) {
    const int64_t id = ended ? -1 : a.tokens.before(i, t, s);
    ended = ended || id < 0 || id == a.eos;
    hash ^= uint64_t(ended ? a.eos : id) * integer(a.multipliers[s]);
  }
  const int64_t size = int64_t(integer(a.sizes[j])), rest = size > 0 ? int64_t(hash) % size : 0;
  int64_t row = (rest < 0 ? rest + size : rest) + int64_t(integer(a.offsets[j]));
  row = row < 0 ? 0 : row < a.rows ? row : a.rows - 1;  // a table that its own offsets do not fit
  for (int64_t c = threadIdx.x; c < a.width; c += kNgramThreads) a.y[t][j * a.width + c] = a.table.value(row, c);
}

struct LastTokensArgs {
  NgramIds tokens;
  int gram;
};

// A thread for each sequence, after all rows have been looked up: it overwrites what they read.
__global__ void __launch_bounds__(kNgramThreads) last_tokens(LastTokensArgs a) {
  const int i = int(blockIdx.x) * kNgramThreads + int(threadIdx.x);
  if (i >= a.tokens.sequences.count) return;
  const int end = a.tokens.sequences.end(i);
  if (end == a.tokens.sequences.begin(i)) return;
  float last[kLongestGram];
  for (int s = 0; s < a.gram - 1; ++s) last[s] = float(a.tokens.before(i, end, s + 1) + 1);
  for (int s = 0; s < a.gram - 1; ++s) a.tokens.state[a.tokens.sequences.slot(i)][s] = last[s];
}

}  // namespace

template <>
void run(const NgramEmbedding& op) {
  const int64_t tokens = op.ids[0], heads = op.sizes[0];
  const NgramIds ids{global_data<const int32_t>(op.ids), op.state, Sequences(op.cu_seqlens, op.slots, tokens)};
  with_table(op.weight, [&](auto table) {
    const NgramArgs<decltype(table)> a{ids,  table,        op.multipliers, op.sizes, op.offsets,
                                       op.y, op.weight[0], op.weight[1],   op.eos,   int(op.per_gram)};
    launch(ngram_rows<decltype(table)>, {tokens, heads}, kNgramThreads, a);
  });
  const LastTokensArgs last{ids, int(op.multipliers[0])};
  launch(last_tokens, {ceil_div(ids.sequences.count, kNgramThreads)}, kNgramThreads, last);
}

}  // namespace statespace::cuda
