// Three kernels: the key of every block; the blocks that every query sees; a query's head against the keys it sees, a
// key a warp, whose parts are joined at the end.
#include "elementary.h"
#include "ops/sparse_attention.h"
#include "runtime.h"
#include "views.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32, kMaxOwned = 32;  // channels of a lane: heads of up to 1024

template <class T>
struct Args {
  Rows<const float> q, rel, rel_proj, index_q, index_weights, ape;
  global<const float> norm, freq;
  global<const T> k, v, index_keys;
  int64_t page_stride_k, page_stride_v, page_stride_index;
  Sequences sequences;
  global<const int32_t> lengths;
  Rows<const int32_t> table;
  Rows<float> y;
  global<float> block_keys;  // (sequences, blocks, index_dim)
  global<float> score;       // (tokens, blocks)
  global<int32_t> seen;      // (tokens, blocks)
  int tokens, nheads, nheads_kv, headdim, page_size, rank, extent, window, size, top, blocks, index_heads, dim, half,
      width;
  float scale, log_floor, log_alpha, index_scale, eps;

  // Keys of a sequence, and where a token stands among them.
  __device__ int keys(int s) const { return lengths[s]; }
  __device__ int position(int s, int t) const { return keys(s) - (sequences.end(s) - t); }
  __device__ int64_t at(int s, int j, int64_t stride, int head, int row) const {
    return int64_t(table[s][j / page_size]) * stride + (int64_t(head) * page_size + j % page_size) * row;
  }
};

__device__ float sum_of_warp(float v) {
  for (int mask = 16; mask > 0; mask /= 2) v += shuffle_xor(v, mask);
  return v;
}

// A block a warp.
template <class T>
__global__ void __launch_bounds__(kThreads) find_keys(Args<T> a) {
  const int64_t i = int64_t(blockIdx.x) * kWarps + warp();
  const int s = int(i / a.blocks), b = int(i % a.blocks), first = b * a.size;
  if (s >= a.sequences.count || first + a.size > a.keys(s)) return;  // the whole warp
  const global<float> c = a.block_keys + i * a.dim;
  auto row = [&](int j) { return a.index_keys + a.at(s, first + j, a.page_stride_index, 0, a.width); };
  if (a.ape) {
    for (int d = lane(); d < a.dim; d += 32) {
      float top = -INFINITY, total = 0, weighted = 0;
      for (int j = 0; j < a.size; ++j) top = fmaxf(top, to_float(row(j)[a.dim + d]) + a.ape[j][d]);
      for (int j = 0; j < a.size; ++j) {
        const float p = expf(to_float(row(j)[a.dim + d]) + a.ape[j][d] - top);
        total += p, weighted += p * to_float(row(j)[d]);
      }
      c[d] = weighted / total;
    }
    return;
  }
  float squares = 0;
  for (int d = lane(); d < a.dim; d += 32) {
    float mean = 0;
    for (int j = 0; j < a.size; ++j) mean += to_float(row(j)[d]);
    mean /= float(a.size);
    squares += mean * mean;
    c[d] = mean;
  }
  const float norm = rsqrtf(sum_of_warp(squares) / float(a.dim) + a.eps);
  for (int d = lane(); d < a.dim; d += 32) c[d] = c[d] * norm * (1 + a.norm[d]);
  warp_barrier();
  for (int d = lane(); d < a.half; d += 32) {
    const double angle = double(float(first) * a.freq[d]);
    const float cosine = float(cos(angle)), sine = float(sin(angle)), x = c[d], z = c[a.half + d];
    c[d] = x * cosine - z * sine;
    c[a.half + d] = z * cosine + x * sine;
  }
}

struct Candidate {
  float score;
  int block;  // -1: none

  __device__ Candidate or_better(const Candidate& other) const {
    if (other.block < 0) return *this;
    const bool better = block < 0 || other.score > score || (!(score > other.score) && other.block < block);
    return better ? other : *this;
  }
};

// A query a warp.
template <class T>
__global__ void __launch_bounds__(kThreads) choose(Args<T> a) {
  const int t = int(blockIdx.x) * kWarps + warp();
  if (t >= a.tokens) return;  // the whole warp
  const int s = a.sequences.containing(t), count = (a.position(s, t) + 1) / a.size;
  const global<float> score = a.score + int64_t(t) * a.blocks;
  const global<int32_t> seen = a.seen + int64_t(t) * a.blocks;
  for (int b = lane(); b < count; b += 32) {
    const global<const float> c = a.block_keys + (int64_t(s) * a.blocks + b) * a.dim;
    float total = 0;
    for (int h = 0; h < a.index_heads && count > a.top; ++h) {
      float dot = 0;
      for (int d = 0; d < a.dim; ++d) dot += a.index_q[t][h * a.dim + d] * c[d];
      if (dot > 0) total += a.index_scale * dot * (a.index_weights ? a.index_weights[t][h] : 1.f);
    }
    score[b] = total, seen[b] = count <= a.top;
  }
  for (int k = 0; k < a.top && count > a.top; ++k) {
    Candidate best{0, -1};
    for (int b = lane(); b < count; b += 32)
      if (!seen[b]) best = best.or_better({score[b], b});
    for (int mask = 16; mask > 0; mask /= 2) best = best.or_better(shuffle_xor(best, mask));
    if (best.block % 32 == lane()) seen[best.block] = 1;
  }
}

// A query's head a block.
template <class T>
__global__ void __launch_bounds__(kThreads) look(Args<T> a) {
  struct Shared {
    float part[kWarps][32 * kMaxOwned];
    float top[kWarps], total[kWarps];
  };
  Shared& shared_memory = shared<Shared>();
  const int t = int(blockIdx.x) / a.nheads, head = int(blockIdx.x) % a.nheads, kv = head / (a.nheads / a.nheads_kv);
  const int s = a.sequences.containing(t), position = a.position(s, t), complete = (position + 1) / a.size;
  const int first = a.window > 0 && position >= a.window ? position - a.window + 1 : 0;
  const global<const float> q = a.q[t] + head * a.headdim;
  const float ratio = a.log_floor > 0 ? float(position + 1) / a.log_floor : 1;
  const float tau = 1 + (ratio > 1 ? a.log_alpha * logf(ratio) : 0);
  float sum[kMaxOwned], top = -INFINITY, total = 0;
  for (float& v : sum) v = 0;
  for (int j = first + warp(); j <= position; j += kWarps) {
    if (a.seen && j / a.size < complete && !a.seen[int64_t(t) * a.blocks + j / a.size]) continue;
    const global<const T> key = a.k + a.at(s, j, a.page_stride_k, kv, a.headdim);
    float dot = 0;
    for (int d = lane(); d < a.headdim; d += 32) dot += q[d] * to_float(key[d]);
    dot *= a.scale;
    if (position - j < a.extent)
      for (int r = lane(); r < a.rank; r += 32) dot += a.rel[t][head * a.rank + r] * a.rel_proj[r][position - j];
    const float score = tau * sum_of_warp(dot);
    const float higher = fmaxf(top, score), shrink = expf(top - higher), p = expf(score - higher);
    top = higher, total = total * shrink + p;
    const global<const T> value = a.v + a.at(s, j, a.page_stride_v, kv, a.headdim);
#pragma unroll
    for (int i = 0; i < kMaxOwned; ++i)
      if (lane() + 32 * i < a.headdim) sum[i] = sum[i] * shrink + p * to_float(value[lane() + 32 * i]);
  }
#pragma unroll
  for (int i = 0; i < kMaxOwned; ++i)
    if (lane() + 32 * i < a.headdim) shared_memory.part[warp()][lane() + 32 * i] = sum[i];
  if (lane() == 0) shared_memory.top[warp()] = top, shared_memory.total[warp()] = total;
  barrier();
  float highest = -INFINITY, all = 0;
  for (int w = 0; w < kWarps; ++w) highest = fmaxf(highest, shared_memory.top[w]);
  for (int w = 0; w < kWarps; ++w)
    if (shared_memory.total[w] > 0) all += shared_memory.total[w] * expf(shared_memory.top[w] - highest);
  for (int d = int(threadIdx.x); d < a.headdim; d += kThreads) {
    float y = 0;
    for (int w = 0; w < kWarps; ++w)
      if (shared_memory.total[w] > 0) y += shared_memory.part[w][d] * expf(shared_memory.top[w] - highest);
    a.y[t][head * a.headdim + d] = y / all;
  }
}

template <class T>
void run_as(const SparseAttention& op) {
  const Sequences sequences(op.cu_seqlens, Tensor{}, op.q[0]);
  const int64_t tokens = op.q[0], dim = op.index_q ? op.index_q[2] : 0;
  const int64_t blocks = op.index_q ? op.page_table[1] * op.k[2] / op.block_size : 0;
  const Scratch<float> keys(sequences.count * blocks * dim), score(tokens * blocks);
  const Scratch<int32_t> seen(tokens * blocks);
  Args<T> a{op.q,
            op.rel,
            op.rel_proj,
            op.index_q,
            op.index_weights,
            op.index_ape,
            global_data<const float>(op.index_norm),
            global_data<const float>(op.index_freq),
            global_data<const T>(op.k),
            global_data<const T>(op.v),
            global_data<const T>(op.index_keys),
            op.k.row_stride,
            op.v.row_stride,
            op.index_keys.row_stride,
            sequences,
            global_data<const int32_t>(op.key_lengths),
            op.page_table,
            op.y};
  a.tokens = int(tokens), a.nheads = int(op.q[1]), a.nheads_kv = int(op.k[1]), a.headdim = int(op.q[2]);
  a.page_size = int(op.k[2]), a.rank = op.rel ? int(op.rel[2]) : 0, a.extent = op.rel ? int(op.rel_proj[1]) : 0,
  a.window = int(op.window);
  a.size = int(op.block_size), a.top = int(op.top_blocks), a.blocks = int(blocks), a.dim = int(dim);
  a.scale = op.scale, a.log_floor = op.log_floor, a.log_alpha = op.log_alpha, a.index_scale = op.index_scale;
  a.eps = op.index_eps;
  if (op.index_q && blocks > 0) {
    a.index_heads = int(op.index_q[1]), a.half = op.index_freq ? int(op.index_freq[0]) : 0;
    a.width = int(op.index_keys[3]);
    a.block_keys = keys.data(), a.score = score.data(), a.seen = seen.data();
    launch(find_keys<T>, {ceil_div(sequences.count * blocks, kWarps)}, kThreads, a);
    launch(choose<T>, {ceil_div(tokens, kWarps)}, kThreads, a);
  }
  launch(look<T>, {tokens * op.q[1]}, kThreads, a);
}

}  // namespace

template <>
void run(const SparseAttention& op) {
  if (!op.paged()) return fail_launch("sparseAttention: packed keys have no kernel on a device");
  if (op.q[0] == 0) return;
  if (op.q[2] > 32 * kMaxOwned) return fail_launch("sparseAttention: heads of more than 1024 channels");
  if (op.k.dtype == DType::f16) return run_as<f16>(op);
  if (op.k.dtype == DType::bf16) return run_as<bf16>(op);
  run_as<float>(op);
}

}  // namespace statespace::cuda
