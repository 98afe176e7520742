#include <algorithm>
#include <type_traits>

#include "backend/kernels.h"
#include "kernels/sparse_attention_rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace sparse;

// fn(head, std::integral_constant) for the heads of a query, as many at once as share their keys.
template <int kHeads = 4, class Fn>
void each_heads(const SparseAttention& op, int64_t begin, int64_t end, Fn&& fn) {
  if constexpr (kHeads > 1)
    if ((op.q[1] / op.k[1]) % kHeads != 0) return each_heads<kHeads / 2>(op, begin, end, fn);
  for (int64_t h = begin; h < end; h += kHeads) fn(h, std::integral_constant<int, kHeads>());
}

// Queries of a sequence so few that they are parted: scores by keys, then weights by heads, then sums by channels, so
// that each thread reads keys and values once.
template <class T>
struct FewQueries {
  static constexpr int64_t kTogether = 8;     // heads, for which a key is widened once
  static constexpr int64_t kKeys = 64;        // of a piece: they stay in the caches while all heads pass by
  static constexpr int64_t kRoom = 16 << 20;  // scores that are held at once
  const SparseAttention& op;
  const Part& part;
  const Choices& choices;
  float* p;  // (tokens, heads at once, stride)
  int64_t stride, tokens;

  // As many tokens as this is for, and heads whose scores are held at once, whole groups of those that go together.
  static int64_t most_tokens(const Context& cx, int64_t stride) {
    return std::min<int64_t>(8 * cx.threads(), std::max<int64_t>(1, kRoom / (kTogether * stride)));
  }
  static int64_t heads_at_once(int64_t heads, int64_t tokens, int64_t stride) {
    return std::min(heads, std::max(+kTogether, kRoom / (tokens * stride) / kTogether * kTogether));
  }
  // For so many tokens or fewer.
  static int64_t floats(int64_t heads, int64_t tokens, int64_t stride) {
    return std::min(tokens * heads * stride, std::max(tokens * kTogether * stride, +kRoom));
  }

  void run(Context& cx) const {
    const int64_t heads = op.q[1], at_once = heads_at_once(heads, tokens, stride);
    for (int64_t h = 0; h < heads; h += at_once) run_heads(cx, h, std::min(heads, h + at_once));
  }

 private:
  int64_t kv_of(int64_t head) const { return head / (op.q[1] / op.k[1]); }
  Seen seen(int64_t i) const { return choices.of(i, part.before() + i); }

  void run_heads(Context& cx, int64_t begin, int64_t end) const {
    const int64_t heads = end - begin, headdim = op.q[2], blocks = ceil_div(stride, kKeys);
    const auto row = [&](int64_t i, int64_t head) { return p + (i * heads + head - begin) * stride; };
    cx.parallel_for(tokens * blocks, [&](int64_t task, int) {
      const int64_t i = task / blocks, from = task % blocks * kKeys, left = seen(i).count - from;
      if (left <= 0) return;
      const Seen keys = seen(i).part(from, std::min(left, kKeys));
      each_heads<kTogether>(op, begin, end, [&](int64_t head, auto together) {
        score<T, together>(part.rows<T>(op.k), kv_of(head), keys, op.q.row(part.begin + i) + head * headdim, headdim,
                           op.scale, row(i, head) + from, stride);
      });
    });
    cx.parallel_for(tokens * heads, [&](int64_t task, int worker) {
      const int64_t i = task / heads, head = begin + task % heads;
      float* bias = cx.local<float>(worker, (op.rel_proj ? op.rel_proj[1] : 0) + kLanes);
      softmax(op, part.begin + i, part.before() + i, head, seen(i), row(i, head), bias);
    });
    // All heads of a strip after each other: its values stay in the caches.
    const int64_t strips = ceil_div(headdim, kStrip), groups = ceil_div(heads, +kTogether);
    cx.parallel_for(tokens * strips * groups, [&](int64_t task, int) {
      const int64_t i = task / (strips * groups), d = task / groups % strips * kStrip,
                    first = begin + task % groups * kTogether;
      each_heads<kTogether>(op, first, std::min(first + kTogether, end), [&](int64_t head, auto together) {
        weigh_from<T, together>(part.rows<T>(op.v), kv_of(head), seen(i), row(i, head), stride, headdim, d,
                                op.y.row(part.begin + i) + head * headdim);
      });
    });
  }
};

template <class T>
void run_as(const SparseAttention& op, Context& cx) {
  constexpr int64_t kHeads = 4;
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.q[0]);
  const int64_t heads = op.q[1];
  int64_t longest = 0, most = 0;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const Part part = part_of(op, sequences, s);
    longest = std::max(longest, part.keys), most = std::max(most, part.end - part.begin);
  }
  if (most == 0) return;
  const int64_t listed = Choices::room(op, longest);
  const int64_t stride = ceil_div(op.index_q ? listed : longest, int64_t(kLanes)) * kLanes;
  const int64_t few = FewQueries<T>::most_tokens(cx, stride);
  Choices choices(op, longest, listed, few);
  float* memory = cx.shared<float>(choices.floats(most) + FewQueries<T>::floats(heads, std::min(most, few), stride));
  choices.place(memory);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const Part part = part_of(op, sequences, s);
    const int64_t tokens = part.end - part.begin;
    if (tokens == 0) continue;
    choices.make<T>(cx, part);
    if (tokens <= few) {
      FewQueries<T>{op, part, choices, memory + choices.floats(most), stride, tokens}.run(cx);
      continue;
    }
    cx.parallel_for(tokens, [&](int64_t i, int worker) {
      const int64_t token = part.begin + i, position = part.before() + i;
      const Seen seen = choices.of(i, position);
      float* p = cx.local<float>(worker, kHeads * stride + (op.rel_proj ? op.rel_proj[1] : 0) + kLanes);
      each_heads(op, 0, heads, [&](int64_t head, auto at_once) {
        probabilities<T, at_once>(op, part.rows<T>(op.k), token, position, head, seen, p, stride, p + kHeads * stride);
        weigh<T, at_once>(part.rows<T>(op.v), head / (heads / op.k[1]), seen, p, stride, op.q[2],
                          op.y.row(token) + head * op.q[2]);
      });
    });
  }
}

}  // namespace

template <>
void run(const SparseAttention& op, Context& cx) {
  if (op.k.dtype == DType::f16) return run_as<f16_t>(op, cx);
  if (op.k.dtype == DType::bf16) return run_as<bf16_t>(op, cx);
  run_as<float>(op, cx);
}

}  // namespace statespace::STATESPACE_ISA
