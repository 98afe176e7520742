#include <cstring>

#include "backend/kernels.h"
#include "kernels/sparse_attention_rows.h"

namespace statespace::STATESPACE_ISA {
namespace {

using namespace sparse;

// Queries of one key head that one piece of work runs through: every kParts-th, as later ones see more keys.
constexpr int64_t kParts = 8;

// What a piece adds to: dk and dv (keys, headdim) of one key head, drelProj (rank, extent).
struct Sums {
  float *dk, *dv, *rel_proj;
};

// One query's heads [head, head + kHeads), which share their keys.
template <int kHeads>
void attend_back(const SparseAttentionBackward& op, const SparseAttention& forward, const Part& part, int64_t token,
                 int64_t position, int64_t head, const Seen& seen, float* p, int64_t stride, float* bias,
                 const Sums& sums) {
  const int64_t headdim = op.q[2], kv = head / (op.q[1] / op.k[1]), extent = seen.extent(forward, position);
  const float *q = op.q.row(token) + head * headdim, *dy = op.dy.row(token) + head * headdim;
  float* ds = p + kHeads * stride;
  const float tau =
      probabilities<float, kHeads>(forward, part.rows<float>(op.k), token, position, head, seen, p, stride, bias);
  score<float, kHeads>(part.rows<float>(op.v), kv, seen, dy, headdim, 1, ds, stride);
  for (int h = 0; h < kHeads; ++h) {
    float *row = ds + h * stride, *weights = p + h * stride;
    F through = zero();
    for (int64_t n = 0; n < seen.count; n += kLanes) {
      const int m = lanes_of(seen.count - n);
      through = fma(load(weights + n, m), load(row + n, m), through);
    }
    const F mean = set(sum(through));
    for (int64_t n = 0; n < seen.count; n += kLanes) {
      const int m = lanes_of(seen.count - n);
      store(row + n, set(tau) * load(weights + n, m) * (load(row + n, m) - mean), m);
    }
    if (extent > 0) {
      // By distance, as relProj has them.
      for (int64_t i = 0; i < extent; ++i) bias[i] = 0;
      for (int64_t n = 0; n < seen.count; ++n)
        if (const int64_t back = position - seen[n]; back < extent) bias[back] = row[n];
      const int64_t rank = op.rel[2], all = op.rel_proj[1];
      const float* rel = op.rel.row(token) + (head + h) * rank;
      for (int64_t r = 0; r < rank; ++r) {
        F total = zero();
        for (int64_t i = 0; i < extent; i += kLanes) {
          const int m = lanes_of(extent - i);
          float* to = sums.rel_proj + r * all + i;
          total = fma(load(bias + i, m), load(op.rel_proj.row(r) + i, m), total);
          store(to, fma(set(rel[r]), load(bias + i, m), load(to, m)), m);
        }
        if (op.drel) op.drel.row(token)[(head + h) * rank + r] = sum(total);
      }
    }
    for (int64_t n = 0; n < seen.count; n += kLanes) {
      const int m = lanes_of(seen.count - n);
      store(row + n, set(op.scale) * load(row + n, m), m);
    }
  }
  if (op.dq) {
    float* dq = op.dq.row(token) + head * headdim;
    weigh<float, kHeads>(part.rows<float>(op.k), kv, seen, ds, stride, headdim, dq);
  }
  for (int64_t n = 0; n < seen.count; ++n) {
    float *dk = sums.dk + seen[n] * headdim, *dv = sums.dv + seen[n] * headdim;
    for (int64_t i = 0; i < headdim; i += kLanes) {
      const int m = lanes_of(headdim - i);
      F key = load(dk + i, m), value = load(dv + i, m);
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        key = fma(set(ds[h * stride + n]), load(q + h * headdim + i, m), key);
        value = fma(set(p[h * stride + n]), load(dy + h * headdim + i, m), value);
      }
      store(dk + i, key, m);
      store(dv + i, value, m);
    }
  }
}

// All heads of one key head, as many at once as divide them.
template <int kHeads = 4, class... Args>
void attend_heads_back(int64_t begin, int64_t count, const SparseAttentionBackward& op, const SparseAttention& forward,
                       const Part& part, int64_t token, int64_t position, Args&&... args) {
  if (kHeads == 1 || count % kHeads == 0) {
    for (int64_t h = begin; h < begin + count; h += kHeads)
      attend_back<kHeads>(op, forward, part, token, position, h, args...);
  } else if constexpr (kHeads > 1) {
    attend_heads_back<kHeads / 2>(begin, count, op, forward, part, token, position, args...);
  }
}

}  // namespace

template <>
void run(const SparseAttentionBackward& op, Context& cx) {
  const SparseAttention forward = op.forward();
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.q[0]);
  const int64_t heads_kv = op.k[1], each = op.q[1] / heads_kv, headdim = op.q[2];
  const int64_t proj = op.rel_proj ? op.rel_proj.size() : 0, tasks = kParts * heads_kv;
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s) longest = std::max(longest, sequences.end(s) - sequences.begin(s));
  Choices choices(forward, longest, Choices::room(forward, longest));
  choices.place(cx.shared<float>(choices.floats(longest)));
  float* memory = cx.kept<float>(tasks * (2 * longest * headdim + proj));
  const auto sums_of = [&](int64_t task) {
    float* own = memory + task * 2 * longest * headdim;
    return Sums{own, own + longest * headdim, memory + tasks * 2 * longest * headdim + task * proj};
  };
  std::memset(sums_of(0).rel_proj, 0, tasks * proj * sizeof(float));
  const int64_t stride = ceil_div(longest, int64_t(kLanes)) * kLanes + kLanes;
  for (int64_t s = 0; s < sequences.count; ++s) {
    const Part part = part_of(forward, sequences, s);
    const int64_t tokens = part.end - part.begin;
    if (tokens == 0) continue;
    choices.make<float>(cx, part);
    cx.parallel_for(tasks, [&](int64_t task, int worker) {
      const Sums sums = sums_of(task);
      std::memset(sums.dk, 0, tokens * headdim * sizeof(float));
      std::memset(sums.dv, 0, tokens * headdim * sizeof(float));
      float* p = cx.local<float>(worker, 8 * stride + (op.rel_proj ? op.rel_proj[1] : 0) + kLanes);
      for (int64_t i = task / heads_kv; i < tokens; i += kParts) {
        cx.check_stop();
        attend_heads_back(task % heads_kv * each, each, op, forward, part, part.begin + i, i, choices.of(i, i), p,
                          stride, p + 8 * stride, sums);
      }
    });
    cx.parallel_for(tokens * heads_kv, [&](int64_t row, int) {
      const int64_t key = row / heads_kv, kv = row % heads_kv;
      for (const Tensor* to : {&op.dk, &op.dv})
        for (int64_t i = 0; *to && i < headdim; i += kLanes) {
          const int m = lanes_of(headdim - i);
          F total = zero();
          for (int64_t task = kv; task < tasks; task += heads_kv) {
            const Sums sums = sums_of(task);
            total = total + load((to == &op.dk ? sums.dk : sums.dv) + key * headdim + i, m);
          }
          store(to->row(part.begin + key) + kv * headdim + i, total, m);
        }
    });
  }
  for (int64_t i = 0; op.drel_proj && i < proj; i += kLanes) {
    F total = zero();
    for (int64_t task = 0; task < tasks; ++task) total = total + load(sums_of(task).rel_proj + i, lanes_of(proj - i));
    store(op.drel_proj.f32() + i, total, lanes_of(proj - i));
  }
}

}  // namespace statespace::STATESPACE_ISA
