#include "ops/sparse_attention.h"

#include <cmath>

#include "backend/kernels.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"

namespace statespace::STATESPACE_ISA {
namespace {

constexpr float kNone = -__builtin_inff();

// Rows of a cache by position.
template <class T>
struct Pages {
  const Tensor& pages;
  const int32_t* table;  // of one sequence
  const T* row(int64_t position, int64_t head) const {
    const int64_t size = pages[2];
    return pages.as<T>() + table[position / size] * pages.row_stride + (head * size + position % size) * pages[3];
  }
};

template <class T>
float dot(const float* a, const T* b, int64_t n) {
  F total = zero();
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = lanes_of(n - i);
    total = fma(load(a + i, m), load(b + i, m), total);
  }
  return sum(total);
}

// c (dim) of the block that begins at `first`; scratch holds dim floats.
template <class T>
void block_key(const SparseAttention& op, const Pages<T>& keys, int64_t first, float* c, float* scratch) {
  const int64_t dim = op.index_q[2], size = op.block_size;
  for (int64_t i = 0; i < dim; ++i) c[i] = 0;
  if (op.index_ape) {
    for (int64_t i = 0; i < dim; i += kLanes) {
      const int m = lanes_of(dim - i);
      auto gate = [&](int64_t j) {
        return load(keys.row(first + j, 0) + dim + i, m) + load(op.index_ape.row(j) + i, m);
      };
      F top = gate(0), total = zero(), weighted = zero();
      for (int64_t j = 1; j < size; ++j) top = max(top, gate(j));
      for (int64_t j = 0; j < size; ++j) {
        const F p = exp(gate(j) - top);
        total = total + p;
        weighted = fma(p, load(keys.row(first + j, 0) + i, m), weighted);
      }
      store(c + i, weighted / total, m);
    }
    return;
  }
  for (int64_t j = 0; j < size; ++j)
    for (int64_t i = 0; i < dim; i += kLanes) {
      const int m = lanes_of(dim - i);
      store(c + i, load(c + i, m) + load(keys.row(first + j, 0) + i, m), m);
    }
  for (int64_t i = 0; i < dim; ++i) c[i] /= float(size);
  const float norm = 1 / std::sqrt(dot(c, c, dim) / float(dim) + op.index_eps);
  for (int64_t i = 0; i < dim; ++i) scratch[i] = c[i] *= norm * (1 + op.index_norm.f32()[i]);
  const int64_t half = op.index_freq ? op.index_freq[0] : 0;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = double(float(first) * op.index_freq.f32()[i]);
    const float cosine = float(std::cos(angle)), sine = float(std::sin(angle));
    c[i] = scratch[i] * cosine - scratch[half + i] * sine;
    c[half + i] = scratch[half + i] * cosine + scratch[i] * sine;
  }
}

// Marks the best of `count` blocks in seen (count).
void choose(const SparseAttention& op, int64_t token, const float* block_keys, int64_t count, float* score,
            float* seen) {
  const int64_t heads = op.index_q[1], dim = op.index_q[2];
  for (int64_t b = 0; b < count; ++b) {
    score[b] = 0, seen[b] = count <= op.top_blocks;
    for (int64_t h = 0; h < heads && count > op.top_blocks; ++h) {
      const float s = dot(op.index_q.row(token) + h * dim, block_keys + b * dim, dim) * op.index_scale;
      if (s > 0) score[b] += s * (op.index_weights ? op.index_weights.row(token)[h] : 1);
    }
  }
  for (int64_t k = 0; k < op.top_blocks && count > op.top_blocks; ++k) {
    int64_t best = -1;
    for (int64_t b = 0; b < count; ++b)
      if (!seen[b] && (best < 0 || score[b] > score[best])) best = b;
    seen[best] = 1;
  }
}

// bias[i] = (rel relProj)[i] of one query's head, for the keys 0 … count - 1 before it.
void relative_bias(const SparseAttention& op, int64_t token, int64_t head, int64_t count, float* bias) {
  const int64_t rank = op.rel[2];
  const float* rel = op.rel.row(token) + head * rank;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int m = lanes_of(count - i);
    F total = zero();
    for (int64_t r = 0; r < rank; ++r) total = fma(set(rel[r]), load(op.rel_proj.row(r) + i, m), total);
    store(bias + i, total, m);
  }
}

// The keys that one query sees: those at `positions`, or all from `first` on where there is no list.
struct Seen {
  const int32_t* positions;
  int64_t first, count;
  int64_t operator[](int64_t n) const { return positions ? positions[n] : first + n; }
};

// Channels [d, d + 4 vectors) of y (kHeads, headdim) = p (kHeads, stride) times the values that are seen. Every loop
// over the sums is unrolled, so that they stay in registers.
template <class T, int kHeads, bool kWhole>
void weigh_strip(const Pages<T>& values, int64_t kv, const Seen& seen, const float* p, int64_t stride, int64_t headdim,
                 int64_t d, float* y) {
  constexpr int kStrip = 4;
  F sums[kHeads][kStrip];
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int v = 0; v < kStrip; ++v) sums[h][v] = zero();
  const auto left = [&](int v) { return lanes_of(headdim - d - v * kLanes); };
  for (int64_t n = 0; n < seen.count; ++n) {
    const T* from = values.row(seen[n], kv) + d;
    F x[kStrip];
#pragma GCC unroll 4
    for (int v = 0; v < kStrip; ++v) {
      if constexpr (kWhole)
        x[v] = load(from + v * kLanes);
      else
        x[v] = left(v) > 0 ? load(from + v * kLanes, left(v)) : zero();
    }
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const F weight = set(p[h * stride + n]);
#pragma GCC unroll 4
      for (int v = 0; v < kStrip; ++v) sums[h][v] = fma(weight, x[v], sums[h][v]);
    }
  }
#pragma GCC unroll 4
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int v = 0; v < kStrip; ++v)
      if (kWhole || left(v) > 0) store(y + h * headdim + d + v * kLanes, sums[h][v], left(v));
}

template <class T, int kHeads>
void weigh(const Pages<T>& values, int64_t kv, const Seen& seen, const float* p, int64_t stride, int64_t headdim,
           float* y) {
  constexpr int64_t kStrip = 4 * kLanes;
  int64_t d = 0;
  for (; d + kStrip <= headdim; d += kStrip) weigh_strip<T, kHeads, true>(values, kv, seen, p, stride, headdim, d, y);
  if (d < headdim) weigh_strip<T, kHeads, false>(values, kv, seen, p, stride, headdim, d, y);
}

// p (kHeads, stride) = scale · q (kHeads, headdim) times the keys that are seen, two at once: a head's sum waits for
// itself.
template <class T, int kHeads>
void score(const Pages<T>& keys, int64_t kv, const Seen& seen, const float* q, int64_t headdim, float scale, float* p,
           int64_t stride) {
  constexpr int kKeys = 2;
  for (int64_t n = 0; n < seen.count; n += kKeys) {
    const T* key[kKeys] = {keys.row(seen[n], kv), keys.row(seen[std::min(n + 1, seen.count - 1)], kv)};
    F total[kKeys][kHeads];
#pragma GCC unroll 2
    for (int k = 0; k < kKeys; ++k)
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) total[k][h] = zero();
    const auto channels = [&](int64_t i, auto... m) __attribute__((always_inline)) {
      const F x = load(key[0] + i, m...), z = load(key[1] + i, m...);
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h) {
        const F query = load(q + h * headdim + i, m...);
        total[0][h] = fma(query, x, total[0][h]);
        total[1][h] = fma(query, z, total[1][h]);
      }
    };
    int64_t i = 0;
    for (; i + kLanes <= headdim; i += kLanes) channels(i);
    if (i < headdim) channels(i, int(headdim - i));
#pragma GCC unroll 2
    for (int k = 0; k < kKeys; ++k)
#pragma GCC unroll 4
      for (int h = 0; h < kHeads; ++h)
        if (n + k < seen.count) p[h * stride + n + k] = scale * sum(total[k][h]);
  }
}

// One query's heads [head, head + kHeads), which share their keys, against those that it sees. p has room for a score
// each, in rows of `stride`, bias for as many keys as relProj speaks of.
template <class T, int kHeads>
void attend(const SparseAttention& op, const int32_t* table, int64_t token, int64_t position, int64_t head,
            const Seen& seen, float* p, int64_t stride, float* bias) {
  const Pages<T> keys{op.k, table}, values{op.v, table};
  const int64_t headdim = op.q[2], kv = head / (op.q[1] / op.k[1]);
  const int64_t extent = op.rel_proj ? std::min(op.rel_proj[1], position - seen[0] + 1) : 0;
  const float* q = op.q.row(token) + head * headdim;
  const float ratio = op.log_floor > 0 ? float(position + 1) / op.log_floor : 1;
  const float tau = 1 + (ratio > 1 ? op.log_alpha * std::log(ratio) : 0);
  score<T, kHeads>(keys, kv, seen, q, headdim, op.scale, p, stride);
  for (int h = 0; h < kHeads; ++h) {
    float *row = p + h * stride, top = kNone;
    if (extent > 0) relative_bias(op, token, head + h, extent, bias);
    for (int64_t n = 0; n < seen.count; ++n) {
      if (const int64_t back = position - seen[n]; back < extent) row[n] += bias[back];
      row[n] *= tau;
      top = row[n] > top ? row[n] : top;
    }
    F sums = zero();
    for (int64_t n = 0; n < seen.count; n += kLanes) {
      const int m = lanes_of(seen.count - n);
      store(row + n, exp(load(row + n, m) - set(top)), m);
      sums = sums + load(row + n, m);
    }
    const float scale = 1 / sum(sums);
    for (int64_t n = 0; n < seen.count; ++n) row[n] *= scale;
  }
  weigh<T, kHeads>(values, kv, seen, p, stride, headdim, op.y.row(token) + head * headdim);
}

// Heads [begin, end), as many at once as share their keys.
template <class T, int kHeads = 4>
void attend_heads(const SparseAttention& op, const int32_t* table, int64_t token, int64_t position, int64_t begin,
                  int64_t end, const Seen& seen, float* p, int64_t stride, float* bias) {
  if (kHeads == 1 || (op.q[1] / op.k[1]) % kHeads == 0) {
    for (int64_t h = begin; h < end; h += kHeads)
      attend<T, kHeads>(op, table, token, position, h, seen, p, stride, bias);
  } else if constexpr (kHeads > 1) {
    attend_heads<T, kHeads / 2>(op, table, token, position, begin, end, seen, p, stride, bias);
  }
}

template <class T>
void run_as(const SparseAttention& op, Context& cx) {
  constexpr int64_t kHeads = 4;
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.q[0]);
  const int64_t heads = op.q[1], dim = op.index_q ? op.index_q[2] : 0, size = op.block_size;
  int64_t longest = 0, most = 0;
  for (int64_t s = 0; s < sequences.count; ++s) {
    longest = std::max<int64_t>(longest, op.key_lengths.i32()[s]);
    most = std::max(most, sequences.end(s) - sequences.begin(s));
  }
  const int64_t blocks = op.index_q ? longest / size : 0;
  // Of each query: the keys that it sees, after their number.
  const int64_t listed = op.index_q ? std::min(longest, (op.top_blocks + 1) * size) + 1 : 0;
  float* block_keys = cx.shared<float>(blocks * dim + 1 + most * listed);
  int32_t* lists = reinterpret_cast<int32_t*>(block_keys + blocks * dim);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), end = sequences.end(s), keys = op.key_lengths.i32()[s];
    if (begin == end) continue;
    const int32_t* table = op.page_table.i32() + s * op.page_table.row_stride;
    const int64_t before = keys - (end - begin);  // keys of earlier calls
    if (op.index_q) {
      cx.parallel_for(keys / size, [&](int64_t b, int worker) {
        block_key(op, Pages<T>{op.index_keys, table}, b * size, block_keys + b * dim, cx.local<float>(worker, dim));
      });
      cx.parallel_for(end - begin, [&](int64_t i, int worker) {
        const int64_t position = before + i, complete = (position + 1) / size;
        float *score = cx.local<float>(worker, 2 * blocks + 1), *chosen = score + blocks;
        choose(op, begin + i, block_keys, complete, score, chosen);
        int32_t *list = lists + i * listed, *to = list + 1;
        for (int64_t j = op.window > 0 && position >= op.window ? position - op.window + 1 : 0; j <= position; ++j)
          if (j / size >= complete || chosen[j / size]) *to++ = int32_t(j);
        *list = int32_t(to - list - 1);
      });
    }
    // Few queries are parted by their heads.
    const int64_t parts = end - begin < 8 * cx.threads() ? ceil_div(heads, kHeads) : 1;
    const int64_t each = parts == 1 ? heads : kHeads,
                  stride = ceil_div(std::max(listed, keys), int64_t(kLanes)) * kLanes;
    cx.parallel_for((end - begin) * parts, [&](int64_t task, int worker) {
      const int64_t i = task / parts, position = before + i, head = task % parts * each;
      const int32_t* list = lists + i * listed;
      const int64_t first = op.window > 0 && position >= op.window ? position - op.window + 1 : 0;
      const Seen seen = op.index_q ? Seen{list + 1, 0, *list} : Seen{nullptr, first, position - first + 1};
      float* p = cx.local<float>(worker, kHeads * stride + (op.rel_proj ? op.rel_proj[1] : 0) + kLanes);
      attend_heads<T>(op, table, begin + i, position, head, std::min(heads, head + each), seen, p, stride,
                      p + kHeads * stride);
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
