#pragma once
// How an attention call is cut into tasks: (sequence, key heads, block of query rows, range of keys). Rows and
// keys are cut by the shapes alone and threads decide only how many heads a task takes, so results do not depend on
// their number.
//
// A query row is one (token, query head): the heads that share a key head are neighbours, so that a block of rows reads
// and packs each key once for the whole group.
#include <algorithm>

#include "core/context.h"
#include "kernels/sequences.h"
#include "ops/attention.h"

namespace statespace::STATESPACE_ISA {

// Up to kFewRows rows of a sequence and key head are read against the keys in place; more are worth packing the keys.
constexpr int kFewRows = 8;
// A sequence whose rows fill at most one block (decode, short chunks) is cut along its keys as well.
constexpr int64_t kSplitFew = 512, kSplitBlock = 2048;
// Keys that few rows are read against at a time.
constexpr int64_t kPartKeys = 64;
// A task of few rows takes as many neighbouring heads as leave each thread so many tasks: their keys lie in one piece
// in a page, and memory is read the faster the longer the pieces are (Zen 5, two threads, bf16: 27 GB/s at 16 KB, 36 at
// 32, 50 at 96).
constexpr int64_t kTasksPerThread = 4;
constexpr int64_t kMostRows = 32;  // of all heads of such a task, and of a panel, whatever multiplies it

struct Span {
  int64_t query0, queries, key0, keys;
  int64_t blocks;              // of query rows
  int64_t heads;               // of a task
  int64_t splits, split_keys;  // of the keys, where there is one block
  int64_t partials;            // first of its partial results, in floats
};

struct Task {
  int32_t sequence, head, heads, block, split;
};

// Keys [begin, end) that a query sees.
struct Visible {
  int64_t begin, end;
};

class AttentionPlan {
 public:
  AttentionPlan(const Attention& op, Context& cx, int64_t block_rows)
      : op_(op), group(op.q[1] / op.k[1]), headdim(op.q[2]), block_rows_(block_rows) {
    sequences_ = op.cu_seqlens ? op.cu_seqlens[0] - 1 : 1;
    int64_t floats = 0, pieces = 0;
    for (int64_t s = 0; s < sequences_; ++s) pieces += measure(s, 0).splits;
    const int64_t groups = ceil_div(kTasksPerThread * cx.threads(), std::max<int64_t>(pieces, 1));
    heads_together_ = ceil_div(op.k[1], std::min(groups, op.k[1]));
    for (int64_t s = 0; s < sequences_; ++s) {
      const Span span = measure(s, floats);
      floats += span.splits > 1 ? op.k[1] * span.splits * partial_size(span) : 0;
      tasks_ += ceil_div(op.k[1], span.heads) * span.blocks * span.splits;
    }
    const int64_t spans_bytes = sequences_ * sizeof(Span), tasks_bytes = tasks_ * sizeof(Task);
    char* memory = cx.shared<char>(spans_bytes + tasks_bytes + floats * sizeof(float));
    spans_ = reinterpret_cast<Span*>(memory);
    list_ = reinterpret_cast<Task*>(memory + spans_bytes);
    partials_ = reinterpret_cast<float*>(memory + spans_bytes + tasks_bytes);
    floats = 0;
    for (int64_t s = 0; s < sequences_; ++s) {
      spans_[s] = measure(s, floats);
      floats += spans_[s].splits > 1 ? op.k[1] * spans_[s].splits * partial_size(spans_[s]) : 0;
    }
    order();
  }

  int64_t sequences() const { return sequences_; }
  int64_t tasks() const { return tasks_; }
  const Span& span(int64_t s) const { return spans_[s]; }
  const Task& task(int64_t i) const { return list_[i]; }

  int64_t first_row(const Task& t) const { return t.block * block_rows_; }
  int64_t rows(const Span& span, int64_t block) const {
    const int64_t left = span.queries * group - block * block_rows_;
    return left < block_rows_ ? left : block_rows_;
  }

  Visible visible(const Span& span, int64_t query) const {
    const int64_t position = query + span.keys - span.queries;
    Visible v{0, span.keys};
    if ((op_.causal || op_.window > 0) && position + 1 < v.end) v.end = position + 1;
    if (op_.window > 0 && position + 1 > op_.window) v.begin = position + 1 - op_.window;
    if (v.end < v.begin) v.end = v.begin;
    return v;
  }
  // Keys that a task reads.
  Visible keys(const Task& t) const { return keys(spans_[t.sequence], t.block, t.split); }

  // A partial result: rows × (headdim values, maximum, sum).
  int64_t partial_size(const Span& span) const { return span.queries * group * (headdim + 2); }
  float* partial(const Span& span, int64_t head, int64_t split) const {
    return partials_ + span.partials + (head * span.splits + split) * partial_size(span);
  }

 private:
  Span measure(int64_t s, int64_t partials) const {
    Span span{};
    const Tensor& bounds_k = op_.cu_seqlens_k ? op_.cu_seqlens_k : op_.cu_seqlens;
    span.query0 = op_.cu_seqlens ? op_.cu_seqlens.i32()[s] : 0;
    span.queries = (op_.cu_seqlens ? op_.cu_seqlens.i32()[s + 1] : op_.q[0]) - span.query0;
    if (op_.paged()) {
      span.keys = op_.key_lengths.i32()[s];
    } else {
      span.key0 = bounds_k ? bounds_k.i32()[s] : 0;
      span.keys = (bounds_k ? bounds_k.i32()[s + 1] : op_.k[0]) - span.key0;
    }
    const int64_t rows = span.queries * group;
    span.blocks = ceil_div(rows, block_rows_);
    span.heads = rows > kFewRows ? 1 : std::min(heads_together_, kMostRows / std::max<int64_t>(rows, 1));
    span.splits = 1;
    span.split_keys = span.keys;
    span.partials = partials;
    if (span.blocks == 1) {
      const Visible all = keys(span, 0, 0);
      span.split_keys = rows <= kFewRows ? kSplitFew : kSplitBlock;
      if (all.end - all.begin > span.split_keys) span.splits = ceil_div(all.end - all.begin, span.split_keys);
    }
    return span;
  }

  Visible keys(const Span& span, int64_t block, int64_t split) const {
    const int64_t row = block * block_rows_, last = row + rows(span, block) - 1;
    Visible v{visible(span, row / group).begin, visible(span, last / group).end};
    if (v.end < v.begin) v.end = v.begin;
    if (span.splits > 1) {
      v.begin += split * span.split_keys;
      if (v.begin + span.split_keys < v.end) v.end = v.begin + span.split_keys;
    }
    return v;
  }

  // Fills the list with the dearest tasks first, so that no thread begins a long one when the others are done.
  void order() {
    constexpr int kBuckets = 8;  // few: neighbours in one are blocks of one head, whose keys stay in the cache
    int64_t count[kBuckets] = {}, dearest = 1;
    each([&](const Task&, int64_t cost) { dearest = cost > dearest ? cost : dearest; });
    auto bucket = [&](int64_t cost) { return kBuckets - 1 - cost * (kBuckets - 1) / dearest; };
    each([&](const Task&, int64_t cost) { ++count[bucket(cost)]; });
    for (int64_t b = 0, next = 0; b < kBuckets; ++b) {
      const int64_t here = count[b];
      count[b] = next;
      next += here;
    }
    each([&](const Task& t, int64_t cost) { list_[count[bucket(cost)]++] = t; });
  }

  template <class Fn>
  void each(Fn&& fn) const {
    for (int32_t s = 0; s < sequences_; ++s)
      for (int32_t head = 0; head < op_.k[1]; head += int32_t(spans_[s].heads))
        for (int32_t block = 0; block < spans_[s].blocks; ++block)
          for (int32_t split = 0; split < spans_[s].splits; ++split) {
            const Visible v = keys(spans_[s], block, split);
            const int32_t heads = int32_t(std::min(spans_[s].heads, op_.k[1] - head));
            fn(Task{s, head, heads, block, split}, heads * rows(spans_[s], block) * (v.end - v.begin));
          }
  }

  const Attention& op_;

 public:
  const int64_t group, headdim;

 private:
  const int64_t block_rows_;
  int64_t sequences_ = 1, tasks_ = 0, heads_together_ = 1;
  Span* spans_ = nullptr;
  Task* list_ = nullptr;
  float* partials_ = nullptr;
};

// Where the keys (or values) of one sequence and head lie.
template <class T>
class KeyRows {
 public:
  KeyRows(const Attention& op, const Tensor& t, const Span& span, int64_t sequence, int64_t head) {
    stride_ = t.row_stride;
    head_stride_ = op.paged() ? t[2] * t[3] : t[2];
    if (op.paged()) {
      base_ = t.as<T>() + head * t[2] * t[3];
      page_size_ = t[2];
      headdim_ = t[3];
      pages_ = op.page_table.i32() + sequence * op.page_table.row_stride;
    } else {
      base_ = t.as<T>() + span.key0 * t.row_stride + head * t[2];
    }
  }

  // Keys that lie one after another from any multiple of it on: `wanted`, or as many as a page is of.
  int64_t run(int64_t wanted) const { return pages_ && page_size_ % wanted ? page_size_ : wanted; }
  // Of neighbours within a run.
  int64_t row_stride() const { return pages_ ? headdim_ : stride_; }
  // Of key j of the head so many behind this one.
  const T* address(int64_t j, int64_t heads) const {
    const T* p = base_ + heads * head_stride_;
    return pages_ ? p + pages_[j / page_size_] * stride_ + j % page_size_ * headdim_ : p + j * stride_;
  }
  // Addresses of keys [begin, end).
  void addresses(int64_t begin, int64_t end, const T** rows) const {
    if (!pages_) {
      for (int64_t j = begin; j < end; ++j) *rows++ = base_ + j * stride_;
      return;
    }
    for (int64_t j = begin; j < end;) {
      const int64_t page = j / page_size_, next = (page + 1) * page_size_ < end ? (page + 1) * page_size_ : end;
      const T* p = base_ + pages_[page] * stride_ + (j - page * page_size_) * headdim_;
      for (; j < next; ++j, p += headdim_) *rows++ = p;
    }
  }

 private:
  const T* base_;
  int64_t stride_, head_stride_, page_size_ = 1, headdim_ = 0;
  const int32_t* pages_ = nullptr;
};

}  // namespace statespace::STATESPACE_ISA
