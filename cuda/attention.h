#pragma once
// What the attention kernels share: where queries and keys lie, which keys a query sees, and the softmax's running
// state. A row is one (token, query head); the heads that share a key head are neighbours, so a block of rows reads
// each key once for all of them. Keys may be split over blocks; then each leaves a partial result, and a last pass
// joins them.
#include "elementary.h"
#include "ops/attention.h"
#include "product.h"
#include "views.h"

namespace statespace::cuda {

struct KeyRange {
  int begin, end;
};

template <class T>
struct AttentionArgs {
  FloatRows q;
  Rows<const T> k, v;
  Rows<float> y;
  Pieces blocks;  // of rows
  global<const int32_t> bounds_k, page_table, key_lengths;
  int64_t table_stride;
  int keys, page_size, nheads_kv, group, headdim;
  bool paged, causal, aligned;
  int window;
  float scale, softcap;

  int splits = 1;
  global<float> partial = nullptr;  // (splits, tokens, nheads, headdim + 2): unnormalised values, maximum, sum

  AttentionArgs(const Attention& op, int rows_per_block)
      : q(op.q),
        k(op.k),
        v(op.v),
        y(op.y),
        blocks{{op.cu_seqlens, Tensor{}, op.q[0]}, rows_per_block, int(op.q[1] / op.k[1])},
        bounds_k(global_data<const int32_t>(op.cu_seqlens_k ? op.cu_seqlens_k : op.cu_seqlens)),
        page_table(global_data<const int32_t>(op.page_table)),
        key_lengths(global_data<const int32_t>(op.key_lengths)),
        table_stride(op.page_table.row_stride),
        keys(op.paged() ? int(op.page_table[1] * op.k[2]) : int(op.k[0])),
        page_size(op.paged() ? int(op.k[2]) : 1),
        nheads_kv(int(op.k[1])),
        group(int(op.q[1] / op.k[1])),
        headdim(int(op.q[2])),
        paged(op.paged()),
        causal(op.causal || op.window > 0),
        window(int(smaller<int64_t>(op.window, INT32_MAX))),
        scale(op.scale),
        softcap(op.softcap) {
    auto even = [](const Tensor& t) {
      return reinterpret_cast<uintptr_t>(t.data) % 16 == 0 && t.row_stride * sizeof(T) % 16 == 0;
    };
    aligned = headdim * sizeof(T) % 16 == 0 && even(op.k) && even(op.v);
  }
};

// One block's work.
struct AttentionPart {
  int sequence, head, split;
  int query0, queries, key0, keys;
  int first_row, rows;  // of the sequence's rows
  int begin, end;       // keys that some row sees, of this split
  KeyRange common;      // keys that every row sees

  // No rows: there is no work.
  template <class T>
  __device__ AttentionPart(const AttentionArgs<T>& a, int key_tile) {
    // The last rows of a causal sequence see the most keys: they begin first.
    const int block = int(gridDim.x) - 1 - int(blockIdx.x);
    head = int(blockIdx.y) % a.nheads_kv, split = int(blockIdx.y) / a.nheads_kv;
    sequence = a.blocks.sequence(block);
    const Sequences& s = a.blocks.sequences;
    query0 = s.begin(sequence), queries = s.end(sequence) - query0;
    key0 = a.paged || !a.bounds_k ? 0 : a.bounds_k[sequence];
    keys = a.paged ? a.key_lengths[sequence] : (a.bounds_k ? a.bounds_k[sequence + 1] : a.keys) - key0;
    first_row = (block - a.blocks.first(sequence)) * a.blocks.size;
    rows = smaller(a.blocks.size, queries * a.group - first_row);
    const KeyRange first = seen(a, 0), last = seen(a, rows - 1);
    begin = first.begin, end = larger(begin, last.end);
    common = {last.begin, first.end};
    if (a.splits > 1) {
      const int share = int(ceil_div(ceil_div(end - begin, a.splits), key_tile)) * key_tile;
      begin += split * share;
      end = smaller(end, begin + share);
    }
  }
  // Rows behind the last one see what that sees; nothing of theirs is stored.
  template <class T>
  __device__ KeyRange seen(const AttentionArgs<T>& a, int row) const {
    const int position = (first_row + smaller(row, rows - 1)) / a.group + keys - queries;
    KeyRange r{0, keys};
    if (a.causal) r.end = larger(0, smaller(keys, position + 1));
    if (a.window > 0) r.begin = larger(0, position + 1 - a.window);
    r.begin = smaller(r.begin, r.end);
    return r;
  }
  __device__ int token(int group, int row) const { return query0 + (first_row + row) / group; }
  __device__ int query_head(int group, int row) const { return head * group + (first_row + row) % group; }

  // First element of a key's or value's row.
  template <class T>
  __device__ int64_t offset(const AttentionArgs<T>& a, const Rows<const T>& t, int key) const {
    if (!a.paged) return (key0 + key) * t.stride + int64_t(head) * a.headdim;
    const int page = a.page_table[sequence * a.table_stride + key / a.page_size];
    return page * t.stride + (int64_t(head) * a.page_size + key % a.page_size) * a.headdim;
  }

  template <class T>
  __device__ global<float> result(const AttentionArgs<T>& a, int row) const {
    const int64_t t = token(a.group, row), h = query_head(a.group, row);
    if (a.splits == 1) return a.y[t] + h * a.headdim;
    const int64_t nheads = int64_t(a.nheads_kv) * a.group;
    return a.partial + ((split * int64_t(a.blocks.sequences.tokens) + t) * nheads + h) * (a.headdim + 2);
  }
};

// Scores in units of log2, so that exp2 serves.
template <class T>
__device__ inline float score(const AttentionArgs<T>& a, float product) {
  return a.softcap > 0 ? a.softcap * kLog2e * tanhf(product * a.scale / a.softcap) : product * a.scale * kLog2e;
}

// The running maximum and sum of one row's softmax.
struct RowState {
  float max = -INFINITY, sum = 0;

  // Takes a new maximum; what was summed so far shrinks by the result.
  __device__ float raise(float highest) {
    const float before = max;
    max = fmaxf(max, highest);
    const float shrink = before == -INFINITY ? 0 : exp2f(before - max);
    sum *= shrink;
    return shrink;
  }
  __device__ float weight(float score) const { return exp2f(score - (max == -INFINITY ? 0 : max)); }
};

// For keys of type T.
template <class T>
void attention_mma(const AttentionArgs<T>& a);
template <class T>
void attention_fma(const AttentionArgs<T>& a);

// Largest head that the tensor cores' kernel takes.
constexpr int kLargestHead = 256;

}  // namespace statespace::cuda
