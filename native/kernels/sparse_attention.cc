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

// One query against the keys that it sees; p has room for a score each, bias for as many keys as relProj speaks of.
template <class T>
void attend(const SparseAttention& op, const Tensor& pages_k, const Tensor& pages_v, const int32_t* table,
            int64_t token, int64_t position, int64_t head, const float* seen, float* p, float* bias) {
  const Pages<T> keys{pages_k, table}, values{pages_v, table};
  const int64_t headdim = op.q[2], kv = head / (op.q[1] / pages_k[1]), size = op.block_size;
  const int64_t first = op.window > 0 && position >= op.window ? position - op.window + 1 : 0;
  const int64_t complete = (position + 1) / size;
  const int64_t extent = op.rel_proj ? std::min(op.rel_proj[1], position - first + 1) : 0;
  if (extent > 0) relative_bias(op, token, head, extent, bias);
  const float* q = op.q.row(token) + head * headdim;
  const float ratio = op.log_floor > 0 ? float(position + 1) / op.log_floor : 1;
  const float tau = 1 + (ratio > 1 ? op.log_alpha * std::log(ratio) : 0);
  float top = kNone;
  for (int64_t j = first; j <= position; ++j) {
    p[j] = kNone;
    if (seen && j / size < complete && !seen[j / size]) continue;
    p[j] = op.scale * dot(q, keys.row(j, kv), headdim);
    if (position - j < extent) p[j] += bias[position - j];
    p[j] *= tau;
    top = p[j] > top ? p[j] : top;
  }
  float* y = op.y.row(token) + head * headdim;
  for (int64_t d = 0; d < headdim; ++d) y[d] = 0;
  F sums = zero();
  for (int64_t j = first; j <= position; j += kLanes) {
    const int m = lanes_of(position + 1 - j);
    // What is not seen is -inf, which exp takes to a tiny number and not to 0.
    const F s = load(p + j, m);
    store(p + j, select(less(s, set(-3e38f)), zero(), exp(s - set(top))), m);
    sums = sums + load(p + j, m);
  }
  const float scale = 1 / sum(sums);
  for (int64_t j = first; j <= position; ++j) {
    if (p[j] == 0) continue;
    const T* v = values.row(j, kv);
    const F weight = set(p[j] * scale);
    for (int64_t d = 0; d < headdim; d += kLanes) {
      const int m = lanes_of(headdim - d);
      store(y + d, fma(weight, load(v + d, m), load(y + d, m)), m);
    }
  }
}

template <class T>
void run_as(const SparseAttention& op, Context& cx) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.q[0]);
  const int64_t heads = op.q[1], dim = op.index_q ? op.index_q[2] : 0;
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences.count; ++s) longest = std::max<int64_t>(longest, op.key_lengths.i32()[s]);
  const int64_t blocks = op.index_q ? longest / op.block_size : 0;
  float* block_keys = cx.shared<float>(blocks * dim + 1);
  for (int64_t s = 0; s < sequences.count; ++s) {
    const int64_t begin = sequences.begin(s), end = sequences.end(s), keys = op.key_lengths.i32()[s];
    if (begin == end) continue;
    const int32_t* table = op.page_table.i32() + s * op.page_table.row_stride;
    if (op.index_q)
      cx.parallel_for(keys / op.block_size, [&](int64_t b, int worker) {
        block_key(op, Pages<T>{op.index_keys, table}, b * op.block_size, block_keys + b * dim,
                  cx.local<float>(worker, dim));
      });
    cx.parallel_for(end - begin, [&](int64_t i, int worker) {
      const int64_t position = keys - (end - begin) + i, complete = op.index_q ? (position + 1) / op.block_size : 0;
      const int64_t extent = op.rel_proj ? op.rel_proj[1] : 0;
      float* p = cx.local<float>(worker, keys + 2 * blocks + kLanes + extent);
      float *score = p + keys + kLanes, *seen = score + blocks, *bias = seen + blocks;
      if (op.index_q) choose(op, begin + i, block_keys, complete, score, seen);
      for (int64_t h = 0; h < heads; ++h)
        attend<T>(op, op.k, op.v, table, begin + i, position, h, op.index_q ? seen : nullptr, p, bias);
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
