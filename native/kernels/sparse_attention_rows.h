#pragma once
// The keys that a query of sparse attention sees, and its weights of them; the forward's and the gradient's.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/context.h"
#include "isa/math.h"
#include "kernels/rows.h"
#include "kernels/sequences.h"
#include "ops/sparse_attention.h"

namespace statespace::STATESPACE_ISA::sparse {

constexpr float kNone = -__builtin_inff();

// A sequence's keys by position: pages of a cache, or rows of the call's tokens from `first` on.
template <class T>
struct Keys {
  const Tensor& rows;
  const int32_t* table;  // of one sequence; absent: packed
  int64_t first;
  const T* row(int64_t position, int64_t head) const {
    if (!table) return rows.as<T>() + (first + position) * rows.row_stride + head * rows[2];
    const int64_t size = rows[2];
    return rows.as<T>() + table[position / size] * rows.row_stride + (head * size + position % size) * rows[3];
  }
};

// One sequence's part of a call.
struct Part {
  int64_t begin, end, keys;
  const int32_t* table;
  int64_t before() const { return keys - (end - begin); }  // keys of earlier calls
  template <class T>
  Keys<T> rows(const Tensor& t) const {
    return {t, table, begin};
  }
};
inline Part part_of(const SparseAttention& op, const Sequences& sequences, int64_t s) {
  const int64_t begin = sequences.begin(s), end = sequences.end(s);
  if (!op.paged()) return {begin, end, end - begin, nullptr};
  return {begin, end, op.key_lengths.i32()[s], op.page_table.i32() + s * op.page_table.row_stride};
}

template <class T>
float dot_of(const float* a, const T* b, int64_t n) {
  F total = zero();
  for (int64_t i = 0; i < n; i += kLanes) {
    const int m = lanes_of(n - i);
    total = fma(load(a + i, m), load(b + i, m), total);
  }
  return sum(total);
}

// c (dim) of the block that begins at `first`; scratch holds dim floats.
template <class T>
void block_key(const SparseAttention& op, const Keys<T>& keys, int64_t first, float* c, float* scratch) {
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
  const float norm = 1 / std::sqrt(dot_of(c, c, dim) / float(dim) + op.index_eps);
  for (int64_t i = 0; i < dim; ++i) scratch[i] = c[i] *= norm * (1 + op.index_norm.f32()[i]);
  const int64_t half = op.index_freq ? op.index_freq[0] : 0;
  for (int64_t i = 0; i < half; ++i) {
    const double angle = double(float(first) * op.index_freq.f32()[i]);
    const float cosine = float(std::cos(angle)), sine = float(std::sin(angle));
    c[i] = scratch[i] * cosine - scratch[half + i] * sine;
    c[half + i] = scratch[half + i] * cosine + scratch[i] * sine;
  }
}

// How well a query likes a block whose key is c (dim).
inline float block_score(const SparseAttention& op, int64_t token, const float* c) {
  const int64_t heads = op.index_q[1], dim = op.index_q[2];
  float score = 0;
  for (int64_t h = 0; h < heads; ++h) {
    const float s = dot_of(op.index_q.row(token) + h * dim, c, dim) * op.index_scale;
    if (s > 0) score += s * (op.index_weights ? op.index_weights.row(token)[h] : 1);
  }
  return score == score ? score : kNone;  // an order of all, whatever weights there are
}

// Marks the best of `count` blocks in seen (count), of equals the first; order has room for a number each.
inline void choose(const SparseAttention& op, const float* score, int64_t count, int32_t* order, bool* seen) {
  const int64_t top = op.top_blocks;  // fewer than count
  std::iota(order, order + count, 0);
  std::nth_element(order, order + top, order + count,
                   [&](int32_t a, int32_t b) { return score[a] != score[b] ? score[a] > score[b] : a < b; });
  std::fill(seen, seen + count, false);
  for (int64_t i = 0; i < top; ++i) seen[order[i]] = true;
}

// bias[i] = (rel relProj)[i] of one query's head, for the keys 0 … count - 1 before it.
inline void relative_bias(const SparseAttention& op, int64_t token, int64_t head, int64_t count, float* bias) {
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
  Seen part(int64_t from, int64_t n) const { return {positions ? positions + from : nullptr, first + from, n}; }
  // How many distances of relProj there are among them.
  int64_t extent(const SparseAttention& op, int64_t position) const {
    return op.rel_proj ? std::min(op.rel_proj[1], position - (*this)[0] + 1) : 0;
  }
};

constexpr int64_t kStrip = 4 * kLanes;  // channels that are summed at once

// Channels [d, d + kVectors vectors) of y (kHeads, headdim) = p (kHeads, stride) times the values that are seen. Every
// loop over the sums is unrolled, so that they stay in registers.
template <class T, int kHeads, int kVectors, bool kWhole>
void weigh_strip(const Keys<T>& values, int64_t kv, const Seen& seen, const float* p, int64_t stride, int64_t headdim,
                 int64_t d, float* y) {
  F sums[kHeads][kVectors];
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[h][v] = zero();
  const auto left = [&](int v) { return lanes_of(headdim - d - v * kLanes); };
  for (int64_t n = 0; n < seen.count; ++n) {
    const T* from = values.row(seen[n], kv) + d;
    F x[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      if constexpr (kWhole)
        x[v] = load(from + v * kLanes);
      else
        x[v] = left(v) > 0 ? load(from + v * kLanes, left(v)) : zero();
    }
#pragma GCC unroll 8
    for (int h = 0; h < kHeads; ++h) {
      const F weight = set(p[h * stride + n]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[h][v] = fma(weight, x[v], sums[h][v]);
    }
  }
#pragma GCC unroll 8
  for (int h = 0; h < kHeads; ++h)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      if (kWhole || left(v) > 0) store(y + h * headdim + d + v * kLanes, sums[h][v], left(v));
}

// Channels [d, d + kStrip): of eight heads by halves, as many sums as of four.
template <class T, int kHeads>
void weigh_from(const Keys<T>& values, int64_t kv, const Seen& seen, const float* p, int64_t stride, int64_t headdim,
                int64_t d, float* y) {
  constexpr int kVectors = kHeads > 4 ? 2 : 4;
  for (const int64_t end = std::min(d + kStrip, headdim); d < end; d += kVectors * kLanes)
    if (d + kVectors * kLanes <= headdim)
      weigh_strip<T, kHeads, kVectors, true>(values, kv, seen, p, stride, headdim, d, y);
    else
      weigh_strip<T, kHeads, kVectors, false>(values, kv, seen, p, stride, headdim, d, y);
}

template <class T, int kHeads>
void weigh(const Keys<T>& values, int64_t kv, const Seen& seen, const float* p, int64_t stride, int64_t headdim,
           float* y) {
  for (int64_t d = 0; d < headdim; d += kStrip) weigh_from<T, kHeads>(values, kv, seen, p, stride, headdim, d, y);
}

// p (kHeads, stride) = scale · q (kHeads, headdim) times the keys that are seen, two at once: a head's sum waits for
// itself.
template <class T, int kHeads>
void score(const Keys<T>& keys, int64_t kv, const Seen& seen, const float* q, int64_t headdim, float scale, float* p,
           int64_t stride) {
  constexpr int kKeys = 2;
  for (int64_t n = 0; n < seen.count; n += kKeys) {
    const T* key[kKeys] = {keys.row(seen[n], kv), keys.row(seen[std::min(n + 1, seen.count - 1)], kv)};
    F total[kKeys][kHeads];
#pragma GCC unroll 2
    for (int k = 0; k < kKeys; ++k)
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h) total[k][h] = zero();
    const auto channels = [&](int64_t i, auto... m) __attribute__((always_inline)) {
      const F x = load(key[0] + i, m...), z = load(key[1] + i, m...);
#pragma GCC unroll 8
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
#pragma GCC unroll 8
      for (int h = 0; h < kHeads; ++h)
        if (n + k < seen.count) p[h * stride + n + k] = scale * sum(total[k][h]);
  }
}

// τ of a query at `position`.
inline float temperature(const SparseAttention& op, int64_t position) {
  const float ratio = op.log_floor > 0 ? float(position + 1) / op.log_floor : 1;
  return 1 + (ratio > 1 ? op.log_alpha * std::log(ratio) : 0);
}

// The softmax's weights of one head of a query, in place of its scores of the keys that it sees. bias has room for as
// many keys as relProj speaks of.
inline void softmax(const SparseAttention& op, int64_t token, int64_t position, int64_t head, const Seen& seen,
                    float* row, float* bias) {
  const int64_t extent = seen.extent(op, position);
  const float tau = temperature(op, position);
  float top = kNone;
  if (extent > 0) relative_bias(op, token, head, extent, bias);
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

// The softmax's weights of one query's heads [head, head + kHeads), which share their keys, for those that it sees: p
// has room for a score each, in rows of `stride`. Returns τ.
template <class T, int kHeads>
float probabilities(const SparseAttention& op, const Keys<T>& keys, int64_t token, int64_t position, int64_t head,
                    const Seen& seen, float* p, int64_t stride, float* bias) {
  const int64_t headdim = op.q[2], kv = head / (op.q[1] / op.k[1]);
  score<T, kHeads>(keys, kv, seen, op.q.row(token) + head * headdim, headdim, op.scale, p, stride);
  for (int h = 0; h < kHeads; ++h) softmax(op, token, position, head + h, seen, p + h * stride, bias);
  return temperature(op, position);
}

namespace {  // so that what common templates make of its loops is no symbol of theirs

// What the queries of a sequence see. With an indexer each has a list of keys, after their number, in memory of the
// caller's.
struct Choices {
  const SparseAttention& op;
  int64_t blocks, listed;  // complete blocks of the longest sequence, room of a list
  int64_t scored;          // of a sequence with so many tokens or fewer, blocks are scored by all threads
  float* block_keys;       // (blocks, index_dim)
  float* scores;           // (scored, blocks)
  int32_t* lists;          // (tokens of a sequence, listed)

  Choices(const SparseAttention& op, int64_t longest, int64_t listed, int64_t scored = 0)
      : op(op), blocks(op.index_q ? longest / op.block_size : 0), listed(listed), scored(scored) {}
  static int64_t room(const SparseAttention& op, int64_t longest) {
    return op.index_q ? std::min(longest, (op.top_blocks + 1) * op.block_size) + 1 : 0;
  }
  int64_t floats(int64_t tokens) const { return blocks * (dim() + scored) + 1 + tokens * listed; }
  void place(float* memory) {
    block_keys = memory, scores = memory + blocks * dim();
    lists = reinterpret_cast<int32_t*>(scores + blocks * scored);
  }

  template <class T>
  void make(Context& cx, const Part& part) const {
    if (!op.index_q) return;
    const int64_t size = op.block_size, tokens = part.end - part.begin;
    cx.parallel_for(part.keys / size, [&](int64_t b, int worker) {
      float* c = block_keys + b * dim();
      block_key(op, part.rows<T>(op.index_keys), b * size, c, cx.local<float>(worker, dim()));
      for (int64_t i = 0; i < tokens && tokens <= scored; ++i)
        if (has_choice(part.before() + i)) scores[i * blocks + b] = block_score(op, part.begin + i, c);
    });
    cx.parallel_for(tokens, [&](int64_t i, int worker) {
      const int64_t position = part.before() + i, complete = (position + 1) / size;
      int32_t *list = lists + i * listed, *to = list + 1;
      float* own = cx.local<float>(worker, 3 * blocks + 1);
      int32_t* order = reinterpret_cast<int32_t*>(own + blocks);
      bool* chosen = reinterpret_cast<bool*>(order + blocks);
      const float* score = tokens <= scored ? scores + i * blocks : own;
      if (has_choice(position)) {
        for (int64_t b = 0; b < complete && score == own; ++b)
          own[b] = block_score(op, part.begin + i, block_keys + b * dim());
        choose(op, score, complete, order, chosen);
      }
      for (int64_t j = first(position); j <= position; ++j)
        if (!has_choice(position) || j / size >= complete || chosen[j / size]) *to++ = int32_t(j);
      *list = int32_t(to - list - 1);
    });
  }
  // Of the i-th query, which stands at `position`.
  Seen of(int64_t i, int64_t position) const {
    const int32_t* list = lists + i * listed;
    return op.index_q ? Seen{list + 1, 0, *list} : Seen{nullptr, first(position), position - first(position) + 1};
  }

 private:
  int64_t dim() const { return op.index_q ? op.index_q[2] : 0; }
  // Whether a query at this position sees some complete blocks and not all.
  bool has_choice(int64_t position) const { return (position + 1) / op.block_size > op.top_blocks; }
  int64_t first(int64_t position) const {
    return op.window > 0 && position >= op.window ? position - op.window + 1 : 0;
  }
};

}  // namespace
}  // namespace statespace::STATESPACE_ISA::sparse
