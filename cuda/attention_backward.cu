// Attention's gradient without a matrix of weights: those of a row come again from its log-sum-exp. A warp takes a row
// for dq, its lanes 32 keys at a time; and a key for dk and dv, its lanes 32 of the rows that see it.
#include "gradients.h"
#include "ops/attention.h"
#include "product.h"
#include "runtime.h"

namespace statespace::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int kColumns = 8;  // of a lane: 256 a pass
constexpr int kStats = 3;    // of a row

struct AttentionGradientArgs {
  FloatRows q, k, v;
  Rows<const float> dy, y, lse;
  Rows<float> dq, dk, dv;
  Sequences sequences;
  global<const int32_t> bounds_k;
  // (tokens, nheads, 3): lse, dy · y, and scale, but 0 where a row sees one key: its weight is 1 whatever its score.
  global<float> stats;
  int tokens, keys, nheads, nheads_kv, headdim, window;
  bool causal;
  float scale, softcap;

  __device__ int key_begin(int s) const { return bounds_k ? bounds_k[s] : 0; }
  __device__ int key_end(int s) const { return bounds_k ? bounds_k[s + 1] : keys; }
  __device__ int key_head(int h) const { return h / (nheads / nheads_kv); }
  __device__ float cap(float score) const { return softcap > 0 ? softcap * tanhf(score / softcap) : score; }
  __device__ float score(int t, int h, int j) const {
    float total = 0;
    for (int d = 0; d < headdim; ++d) total += q(t, h * headdim + d) * k(j, key_head(h) * headdim + d);
    return cap(scale * total);
  }
  __device__ float dweight(int t, int h, int j) const {
    float total = 0;
    for (int d = 0; d < headdim; ++d) total += dy[t][h * headdim + d] * v(j, key_head(h) * headdim + d);
    return total;
  }
  __device__ global<float> stat(int t, int h) const { return stats + (int64_t(t) * nheads + h) * kStats; }
};

// The keys that a query sees, and the queries that see a key: [begin, end).
struct Span {
  int begin, end;
};
__device__ inline Span seen_keys(const AttentionGradientArgs& a, int s, int t) {
  const int first = a.key_begin(s), last = a.key_end(s);
  const int place = t - a.sequences.begin(s) + (last - first) - (a.sequences.end(s) - a.sequences.begin(s));
  Span span{first, a.causal ? smaller(last, first + place + 1) : last};
  if (a.window > 0) span.begin = larger(first, first + place - a.window + 1);
  return {span.begin, larger(span.begin, span.end)};
}
__device__ inline Span seeing_queries(const AttentionGradientArgs& a, int s, int j) {
  const int first = a.sequences.begin(s), last = a.sequences.end(s);
  const int place = j - a.key_begin(s) - (a.key_end(s) - a.key_begin(s)) + (last - first);
  Span span{a.causal ? larger(first, first + place) : first, last};
  if (a.window > 0) span.end = int(smaller<int64_t>(last, int64_t(first) + place + a.window));
  return {smaller(span.begin, last), larger(smaller(span.begin, last), span.end)};
}

__global__ void __launch_bounds__(kThreads) row_stats(AttentionGradientArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kWarps + warp();
  if (i >= int64_t(a.tokens) * a.nheads) return;  // the whole warp
  const int t = int(i / a.nheads), h = int(i % a.nheads), s = a.sequences.containing(t);
  const Span keys = seen_keys(a, s, t);
  float lse = 0;
  if (a.lse) {
    lse = a.lse[t][h];
  } else if (keys.begin < keys.end) {
    float top = -INFINITY, total = 0;
    for (int j = keys.begin + lane(); j < keys.end; j += 32) {
      const float score = a.score(t, h, j), high = fmaxf(top, score);
      total = total * expf(top - high) + expf(score - high), top = high;
    }
    const float high = warp_max(top);
    lse = high + logf(warp_sum(top == -INFINITY ? 0 : total * expf(top - high)));
  }
  float r = 0;
  if (a.y) {
    for (int d = lane(); d < a.headdim; d += 32) r += a.dy[t][h * a.headdim + d] * a.y[t][h * a.headdim + d];
  } else {
    for (int j = keys.begin + lane(); j < keys.end; j += 32) r += expf(a.score(t, h, j) - lse) * a.dweight(t, h, j);
  }
  r = warp_sum(r);
  const global<float> stat = a.stat(t, h);
  if (lane() == 0) stat[0] = lse, stat[1] = r, stat[2] = keys.end - keys.begin == 1 ? 0 : a.scale;
}

// A pair's weight, and the gradient of scale · q·k times scale.
struct Pair {
  float weight, gradient;
};
__device__ inline Pair pair_of(const AttentionGradientArgs& a, int t, int h, int j) {
  const global<float> stat = a.stat(t, h);
  const float capped = a.score(t, h, j), weight = expf(capped - stat[0]);
  const float slope = a.softcap > 0 ? 1 - (capped / a.softcap) * (capped / a.softcap) : 1;
  return {weight, stat[2] * slope * weight * (a.dweight(t, h, j) - stat[1])};
}

__global__ void __launch_bounds__(kThreads, 8) query_gradient(AttentionGradientArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kWarps + warp();
  if (i >= int64_t(a.tokens) * a.nheads) return;  // the whole warp
  const int t = int(i / a.nheads), h = int(i % a.nheads), s = a.sequences.containing(t);
  const Span keys = seen_keys(a, s, t);
  for (int first = 0; first < a.headdim; first += 32 * kColumns) {
    float sums[kColumns] = {};
    for (int j0 = keys.begin; j0 < keys.end; j0 += 32) {
      const float mine = j0 + lane() < keys.end ? pair_of(a, t, h, j0 + lane()).gradient : 0;
      for (int l = 0; l < smaller(32, keys.end - j0); ++l) {
        const float gradient = shuffle(mine, l);
#pragma unroll
        for (int m = 0; m < kColumns; ++m) {
          const int d = first + 32 * m + lane();
          if (d < a.headdim) sums[m] += gradient * a.k(j0 + l, a.key_head(h) * a.headdim + d);
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kColumns; ++m) {
      const int d = first + 32 * m + lane();
      if (d < a.headdim) a.dq[t][h * a.headdim + d] = sums[m];
    }
  }
}

__global__ void __launch_bounds__(kThreads) key_gradient(AttentionGradientArgs a) {
  const int64_t i = int64_t(blockIdx.x) * kWarps + warp();
  if (i >= int64_t(a.keys) * a.nheads_kv) return;  // the whole warp
  const int j = int(i / a.nheads_kv), kv = int(i % a.nheads_kv), group = a.nheads / a.nheads_kv;
  int s = 0;  // the first sequence whose keys end behind this one
  for (int high = a.bounds_k ? a.sequences.count - 1 : 0; s < high;) {
    const int middle = (s + high) / 2;
    if (a.bounds_k[middle + 1] > j)
      high = middle;
    else
      s = middle + 1;
  }
  const Span queries = seeing_queries(a, s, j);
  const int rows = (queries.end - queries.begin) * group;
  for (int first = 0; first < a.headdim; first += 32 * kColumns) {
    float dk[kColumns] = {}, dv[kColumns] = {};
    for (int r0 = 0; r0 < rows; r0 += 32) {
      const int r = smaller(r0 + lane(), rows - 1);
      Pair mine = pair_of(a, queries.begin + r / group, kv * group + r % group, j);
      if (r0 + lane() >= rows) mine = {0, 0};
      for (int l = 0; l < smaller(32, rows - r0); ++l) {
        const Pair pair = shuffle(mine, l);
        const int t = queries.begin + (r0 + l) / group, h = kv * group + (r0 + l) % group;
#pragma unroll
        for (int m = 0; m < kColumns; ++m) {
          const int d = first + 32 * m + lane();
          if (d >= a.headdim) continue;
          dk[m] += pair.gradient * a.q(t, h * a.headdim + d);
          dv[m] += pair.weight * a.dy[t][h * a.headdim + d];
        }
      }
    }
#pragma unroll
    for (int m = 0; m < kColumns; ++m) {
      const int d = first + 32 * m + lane();
      if (d >= a.headdim) continue;
      if (a.dk) a.dk[j][kv * a.headdim + d] = dk[m];
      if (a.dv) a.dv[j][kv * a.headdim + d] = dv[m];
    }
  }
}

}  // namespace

template <>
void run(const AttentionBackward& op) {
  const int64_t tokens = op.q[0], keys = op.k[0], nheads = op.q[1], nheads_kv = op.k[1];
  const Scratch<float> stats(larger<int64_t>(kStats * tokens * nheads, 1));
  const AttentionGradientArgs a{FloatRows(op.q),
                                FloatRows(op.k),
                                FloatRows(op.v),
                                op.dy,
                                op.y,
                                op.lse,
                                op.dq,
                                op.dk,
                                op.dv,
                                Sequences(op.cu_seqlens, Tensor{}, tokens),
                                global_data<const int32_t>(op.cu_seqlens_k ? op.cu_seqlens_k : op.cu_seqlens),
                                stats.data(),
                                int(tokens),
                                int(keys),
                                int(nheads),
                                int(nheads_kv),
                                int(op.q[2]),
                                int(smaller<int64_t>(op.window, INT32_MAX / 2)),
                                op.causal || op.window > 0,
                                op.scale,
                                op.softcap};
  launch(row_stats, {ceil_div(tokens * nheads, kWarps)}, kThreads, a);
  if (op.dq) launch(query_gradient, {ceil_div(tokens * nheads, kWarps)}, kThreads, a);
  if (op.dk || op.dv) launch(key_gradient, {ceil_div(keys * nheads_kv, kWarps)}, kThreads, a);
}

}  // namespace statespace::cuda
