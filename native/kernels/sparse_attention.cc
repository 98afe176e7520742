#include "backend/kernels.h"
#include "kernels/sparse_attention_rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace sparse;

// Heads [begin, end) of one query, as many at once as share their keys.
template <class T, int kHeads = 4>
void attend_heads(const SparseAttention& op, const Part& part, int64_t token, int64_t position, int64_t begin,
                  int64_t end, const Seen& seen, float* p, int64_t stride, float* bias) {
  if (kHeads == 1 || (op.q[1] / op.k[1]) % kHeads == 0) {
    const int64_t headdim = op.q[2];
    for (int64_t h = begin; h < end; h += kHeads) {
      probabilities<T, kHeads>(op, part.rows<T>(op.k), token, position, h, seen, p, stride, bias);
      weigh<T, kHeads>(part.rows<T>(op.v), h / (op.q[1] / op.k[1]), seen, p, stride, headdim,
                       op.y.row(token) + h * headdim);
    }
  } else if constexpr (kHeads > 1) {
    attend_heads<T, kHeads / 2>(op, part, token, position, begin, end, seen, p, stride, bias);
  }
}

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
  Choices choices(op, longest, Choices::room(op, longest));
  choices.place(cx.shared<float>(choices.floats(most)));
  for (int64_t s = 0; s < sequences.count; ++s) {
    const Part part = part_of(op, sequences, s);
    const int64_t tokens = part.end - part.begin;
    if (tokens == 0) continue;
    choices.make<T>(cx, part);
    // Few queries are parted by their heads.
    const int64_t parts = tokens < 8 * cx.threads() ? ceil_div(heads, kHeads) : 1, each = parts == 1 ? heads : kHeads,
                  stride = ceil_div(std::max(choices.listed, part.keys), int64_t(kLanes)) * kLanes;
    cx.parallel_for(tokens * parts, [&](int64_t task, int worker) {
      const int64_t i = task / parts, position = part.before() + i, head = task % parts * each;
      float* p = cx.local<float>(worker, kHeads * stride + (op.rel_proj ? op.rel_proj[1] : 0) + kLanes);
      attend_heads<T>(op, part, part.begin + i, position, head, std::min(heads, head + each), choices.of(i, position),
                      p, stride, p + kHeads * stride);
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
