#include <cstring>

#include "backend/kernels.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_tile.h"
#include "kernels/column_sums.h"
#include "kernels/matmul_finish.h"
#include "ops/attention.h"

namespace statespace::STATESPACE_ISA {
namespace {

// A block of rows (token and query head) against a block of keys: both whole panels of both sides of the products.
constexpr int kKeys = kLanes == 16 ? 224 : 240, kBlock = kLanes == 16 ? 112 : 120;
static_assert(kKeys % kPanelRows == 0 && kKeys % kWide == 0 && kBlock % kPanelRows == 0);
constexpr int kStride = kKeys + 16;  // of P and dS
// Fewer (sequence, key head) pairs than this have their blocks of keys dealt out to several tasks.
constexpr int64_t kLeastTasks = 16;

// One worker's memory. Panels of rows are (rows / kPanelRows, headdim, kPanelRows), transposed panels of keys
// (keys / kWide, headdim, kWide), panels of channels (headdim / kWide, keys or rows, kWide).
struct Workspace {
  float *q_rows, *dy_rows, *q_wide, *dy_wide, *keys, *values, *keys_wide, *P, *dS, *dk, *dv;

  Workspace(const Context& cx, int worker, int64_t headdim) {
    const int64_t width = round_up(headdim, kWide), rows = kBlock * width, block = kKeys * width;
    const int64_t sizes[] = {rows,  rows, rows, rows, block, block, block, kBlock * kStride, kBlock * kStride,
                             block, block};
    int64_t total = 0;
    for (int64_t n : sizes) total += n;
    float* p = cx.local<float>(worker, total);
    int i = 0;
    for (float** each : {&q_rows, &dy_rows, &q_wide, &dy_wide, &keys, &values, &keys_wide, &P, &dS, &dk, &dv})
      *each = p, p += sizes[i++];
  }
};

class HeadGradient {
 public:
  HeadGradient(const AttentionBackward& op, const AttentionPlan& plan, const Span& span, int64_t head, const float* r,
               const Workspace& w, const Context& cx)
      : op_(op), plan_(plan), span_(span), head_(head), r_(r), w_(w), cx_(cx), headdim_(plan.headdim) {}

  // Blocks of keys first, first + step …: their dk and dv, and what they add to dq, whose row t of head h lies at
  // dq + (t · nheads + h) · headdim.
  void run(int64_t first, int64_t step, float* dq) {
    with_float(op_.q.dtype, [&](auto q) {
      with_float(op_.k.dtype, [&](auto k) {
        for (int64_t j = first * kKeys; j < span_.keys; j += step * kKeys) keys<decltype(q), decltype(k)>(j, dq);
      });
    });
  }

 private:
  int64_t rows() const { return span_.queries * plan_.group; }
  int64_t token(int64_t r) const { return span_.query0 + r / plan_.group; }
  int64_t head(int64_t r) const { return head_ * plan_.group + r % plan_.group; }

  // Row r of a tensor of queries; key j of one of keys.
  template <class T>
  const T* query(const Tensor& t, int64_t r) const {
    return t.as<T>() + token(r) * t.row_stride + head(r) * headdim_;
  }
  template <class T>
  T* key(const Tensor& t, int64_t j) const {
    return t.as<T>() + (span_.key0 + j) * t.row_stride + head_ * headdim_;
  }

  template <class Q, class K>
  void keys(int64_t begin, float* dq) {
    const int64_t count = std::min<int64_t>(kKeys, span_.keys - begin);
    auto part = [&](const Tensor& t) {
      return [&, this](int64_t j, int64_t d, int n) { return load(key<K>(t, begin + j) + d, n); };
    };
    transpose_keys(count, headdim_, w_.keys, part(op_.k));
    transpose_keys(count, headdim_, w_.values, part(op_.v));
    finite_keys_ = widen(count, kKeys, w_.keys_wide, [&](int64_t j) { return key<K>(op_.k, begin + j); });
    const int64_t width = round_up(headdim_, kWide);
    std::memset(w_.dk, 0, kKeys * width * sizeof(float));
    std::memset(w_.dv, 0, kKeys * width * sizeof(float));
    for (int64_t r = 0; r < rows(); r += kBlock) {
      cx_.check_stop();
      const int64_t last = std::min<int64_t>(r + kBlock, rows());
      const Visible from = plan_.visible(span_, r / plan_.group), to = plan_.visible(span_, (last - 1) / plan_.group);
      if (from.begin >= begin + count || to.end <= begin) continue;
      block<Q>(r, int(last - r), begin, int(count), dq);
    }
    for (int64_t j = 0; j < count; ++j) {
      if (op_.dk) std::memcpy(key<float>(op_.dk, begin + j), w_.dk + j * width, headdim_ * sizeof(float));
      if (op_.dv) std::memcpy(key<float>(op_.dv, begin + j), w_.dv + j * width, headdim_ * sizeof(float));
    }
  }

  // Panels of kWide channels of `count` rows, filled up with zeros. Whether all values are finite.
  template <class Row>
  bool widen(int64_t count, int64_t capacity, float* to, Row&& row) const {
    F none = zero();
    for (int64_t d0 = 0; d0 < headdim_; d0 += kWide, to += capacity * kWide)
      for (int64_t i = 0; i < count; ++i)
        for (int c = 0; c < kWide; c += kLanes) {
          const int64_t left = headdim_ - d0 - c;
          const F x = left > 0 ? load(row(i) + d0 + c, lanes_of(left)) : zero();
          none = fma(x, zero(), none);
          store(to + i * kWide + c, x);
        }
    return sum(none) == 0;
  }
  // Panels of rows, times `scale`.
  template <class Row>
  void panels(int count, float scale, float* to, Row&& row) const {
    for (int r0 = 0; r0 < count; r0 += kPanelRows, to += headdim_ * kPanelRows)
      for (int64_t d = 0; d < headdim_; d += kLanes)
        for (int g = 0; g < kPanelRows; g += kLanes) {
          const int n = lanes_of(headdim_ - d), height = std::min(kLanes, kPanelRows - g);
          F square[kLanes];
          for (int i = 0; i < kLanes; ++i)
            square[i] = i < height && r0 + g + i < count ? set(scale) * load(row(r0 + g + i) + d, n) : zero();
          transpose(square);
          for (int c = 0; c < n; ++c) store(to + (d + c) * kPanelRows + g, square[c], height);
        }
  }

  // Rows [first, first + count) against the packed keys [begin, begin + keys).
  template <class Q>
  void block(int64_t first, int count, int64_t begin, int keys, float* dq) {
    const float scale = op_.softcap > 0 ? op_.scale / op_.softcap : op_.scale * kLog2e;
    auto q = [&](int64_t r) { return query<Q>(op_.q, first + r); };
    auto dy = [&](int64_t r) { return query<float>(op_.dy, first + r); };
    panels(count, scale, w_.q_rows, q);
    panels(count, 1, w_.dy_rows, dy);
    const bool finite_q = widen(count, kBlock, w_.q_wide, q), finite_dy = widen(count, kBlock, w_.dy_wide, dy);
    for (int r = 0; r < count; r += kPanelRows) panel(first, r, std::min(kPanelRows, count - r), begin, keys, dq);
    find_seeing(first, count, begin, keys);
    auto add = [&](const float* m, const float* wide, bool finite, float* to) {
      finite ? add_keys(m, wide, keys, to) : add_seen_keys(m, wide, first, count, begin, keys, to);
    };
    if (op_.dv) add(w_.P, w_.dy_wide, finite_dy, w_.dv);
    if (op_.dk) add(w_.dS, w_.q_wide, finite_q, w_.dk);
  }

  // Which of the packed keys [begin, begin + keys) row r sees, counted from there.
  Visible seen_by(int64_t r, int64_t begin, int keys) const {
    Visible v = plan_.visible(span_, r / plan_.group);
    v.begin = std::clamp<int64_t>(v.begin - begin, 0, keys), v.end = std::clamp<int64_t>(v.end - begin, 0, keys);
    return v;
  }

  // Of each panel of keys the rows that see any of it: what a row sees begins and ends no earlier than what those
  // before it see. A causal block on the diagonal is half empty.
  void find_seeing(int64_t first, int count, int64_t begin, int keys) {
    Visible seen[kBlock];
    for (int r = 0; r < count; ++r) seen[r] = seen_by(first + r, begin, keys);
    int low = 0, high = 0;
    for (int j = 0; j < keys; j += kPanelRows) {
      while (low < count && seen[low].end <= j) ++low;
      while (high < count && seen[high].begin < j + kPanelRows) ++high;
      seeing_[j / kPanelRows] = {low, std::max(low, high)};
    }
  }

  // P and dS of a panel of rows, and its dq.
  void panel(int64_t first, int r0, int count, int64_t begin, int keys, float* dq) {
    float *P = w_.P + r0 * kStride, *dS = w_.dS + r0 * kStride;
    int low = keys, high = 0;
    Visible seen[kPanelRows];
    for (int i = 0; i < count; ++i) {
      const Visible v = seen[i] = seen_by(first + r0 + i, begin, keys);
      if (v.begin < v.end) low = std::min(low, int(v.begin)), high = std::max(high, int(v.end));
    }
    const int from = low / kWide * kWide, to = int(round_up(high, kWide));
    for (int i = 0; i < kPanelRows; ++i)
      for (float* m : {P, dS}) {
        std::memset(m + i * kStride, 0, std::min(from, kKeys) * sizeof(float));
        if (to < kKeys) std::memset(m + i * kStride + to, 0, (kKeys - to) * sizeof(float));
      }
    if (low >= high) return;
    score(w_.q_rows + r0 * headdim_, w_.keys, from, to, P);
    score(w_.dy_rows + r0 * headdim_, w_.values, from, to, dS);
    for (int i = 0; i < count; ++i) {
      const int64_t row = token(first + r0 + i) * op_.q[1] + head(first + r0 + i);
      const Visible all = plan_.visible(span_, (first + r0 + i) / plan_.group);
      soften(P + i * kStride, dS + i * kStride, from, to,
             op_.lse.row(token(first + r0 + i))[head(first + r0 + i)] * kLog2e, r_[row], all.end - all.begin == 1);
      for (float* m : {P + i * kStride, dS + i * kStride}) {
        for (int64_t j = from; j < std::min<int64_t>(seen[i].begin, to); ++j) m[j] = 0;
        for (int64_t j = std::max<int64_t>(seen[i].end, from); j < to; ++j) m[j] = 0;
      }
    }
    for (int i = count; i < kPanelRows; ++i)
      for (float* m : {P, dS}) std::memset(m + i * kStride + from, 0, (to - from) * sizeof(float));
    if (!op_.dq) return;
    if (finite_keys_) return add_queries(dS, first + r0, count, low, high, dq);
    for (int i = 0; i < count; ++i) add_seen_queries(dS + i * kStride, first + r0 + i, seen[i], dq);
  }

  // m (kPanelRows, kStride) = rows · keys, columns [from, to).
  void score(const float* rows, const float* keys, int from, int to, float* m) const {
    for (int j = from; j < to; j += kWide) {
      F acc[kPanelRows][2];
      for (auto& row : acc) row[0] = row[1] = zero();
      FloatTiles::multiply<2, 1, kPanelRows>(rows, keys + j * headdim_, headdim_, acc);
      for (int r = 0; r < kPanelRows; ++r)
        for (int c = 0; c < 2; ++c) store(m + r * kStride + j + c * kLanes, acc[r][c]);
    }
  }

  // Scores become weights, and the gradients dP of these those of q·k: 0 for a key alone, whose weight is 1 whatever
  // its score. Its dP and r are one number, which two orders of summation round apart.
  void soften(float* P, float* dS, int from, int to, float lse, float r, bool alone) const {
    const F shift = set(lse), mean = set(r), scale = set(alone ? 0 : op_.scale), cap = set(op_.softcap * kLog2e);
    for (int j = from; j < to; j += kLanes) {
      const F s = load(P + j);
      F slope = scale, p;
      if (op_.softcap > 0) {
        const F t = tanh(s);
        p = exp2(fma(cap, t, zero() - shift));
        slope = scale * fnma(t, t, set(1.f));
      } else {
        p = exp2(s - shift);
      }
      store(P + j, p);
      store(dS + j, p * (load(dS + j) - mean) * slope);
    }
  }

  // dq += dS · keys [low, high)
  void add_queries(const float* dS, int64_t first, int count, int low, int high, float* dq) const {
    for (int64_t d = 0; d < headdim_; d += kWide) {
      F acc[kPanelRows][2];
      for (auto& row : acc) row[0] = row[1] = zero();
      FloatTiles::multiply<2, kStride, 1>(dS + low, w_.keys_wide + d * kKeys + low * kWide, high - low, acc);
      for (int i = 0; i < count; ++i) {
        float* to = dq + (token(first + i) * op_.q[1] + head(first + i)) * headdim_ + d;
        for (int c = 0; c < 2 && d + c * kLanes < headdim_; ++c) {
          const int n = lanes_of(headdim_ - d - c * kLanes);
          store(to + c * kLanes, load(to + c * kLanes, n) + acc[i][c], n);
        }
      }
    }
  }

  // The same of one row and the keys that it sees: zeros times others that are not finite would be NaN.
  void add_seen_queries(const float* dS, int64_t r, Visible seen, float* dq) const {
    for (int64_t d = 0; d < headdim_; d += kLanes) {
      const int n = lanes_of(headdim_ - d);
      float* to = dq + (token(r) * op_.q[1] + head(r)) * headdim_ + d;
      F total = load(to, n);
      for (int64_t j = seen.begin; j < seen.end; ++j)
        total = fma(set(dS[j]), load(w_.keys_wide + d / kWide * kWide * kKeys + j * kWide + d % kWide), total);
      store(to, total, n);
    }
  }

  // to (keys, width) += mᵀ · rows, of m (rows, kStride) and panels of channels of the rows.
  void add_keys(const float* m, const float* wide, int keys, float* to) const {
    const int64_t width = round_up(headdim_, kWide);
    for (int64_t d = 0; d < headdim_; d += kWide)
      for (int j = 0; j < keys; j += kPanelRows) {
        const auto [low, high] = seeing_[j / kPanelRows];
        F acc[kPanelRows][2];
        float* here = to + j * width + d;
        for (int i = 0; i < kPanelRows; ++i)
          for (int c = 0; c < 2; ++c) acc[i][c] = load(here + i * width + c * kLanes);
        FloatTiles::multiply<2, 1, kStride>(m + low * kStride + j, wide + d * kBlock + low * kWide, high - low, acc);
        for (int i = 0; i < kPanelRows; ++i)
          for (int c = 0; c < 2; ++c) store(here + i * width + c * kLanes, acc[i][c]);
      }
  }

  // The same, each row only to the keys that see it.
  void add_seen_keys(const float* m, const float* wide, int64_t first, int rows, int64_t begin, int keys,
                     float* to) const {
    const int64_t width = round_up(headdim_, kWide);
    for (int r = 0; r < rows; ++r) {
      const Visible seen = seen_by(first + r, begin, keys);
      for (int64_t j = seen.begin; j < seen.end; ++j)
        for (int64_t d = 0; d < width; d += kLanes) {
          float* here = to + j * width + d;
          const F row = load(wide + d / kWide * kWide * kBlock + r * kWide + d % kWide);
          store(here, fma(set(m[r * kStride + j]), row, load(here)));
        }
    }
  }

  const AttentionBackward& op_;
  const AttentionPlan& plan_;
  const Span& span_;
  const int64_t head_;
  const float* r_;
  const Workspace& w_;
  const Context& cx_;
  const int64_t headdim_;
  bool finite_keys_ = true;  // of the block of keys
  struct {
    int begin, end;
  } seeing_[kKeys / kPanelRows];
};

// r (tokens, nheads) = dy · y of each query row.
void row_products(const AttentionBackward& op, const Tensor& y, float* r, Context& cx) {
  const int64_t nheads = op.q[1], headdim = op.q[2];
  for_row_blocks(cx, op.q[0], nheads * headdim, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t)
      for (int64_t h = 0; h < nheads; ++h) {
        const float *a = op.dy.row(t) + h * headdim, *b = y.row(t) + h * headdim;
        F total = zero();
        for (int64_t d = 0; d < headdim; d += kLanes) {
          const int n = lanes_of(headdim - d);
          total = fma(load(a + d, n), load(b + d, n), total);
        }
        r[t * nheads + h] = sum(total);
      }
  });
}

Tensor rows_of(float* data, int64_t tokens, int64_t nheads, int64_t headdim) {
  Tensor t;
  t.data = data, t.rank = headdim ? 3 : 2;
  t.shape[0] = tokens, t.shape[1] = nheads, t.shape[2] = headdim;
  t.row_stride = nheads * (headdim ? headdim : 1);
  return t;
}

}  // namespace

template <>
void run(const AttentionBackward& given, Context& cx) {
  AttentionBackward op = given;
  const int64_t tokens = op.q[0], nheads = op.q[1], nheads_kv = op.k[1], headdim = op.q[2], queries = tokens * nheads;
  const Attention forward = op.forward();
  const int64_t sequences = op.cu_seqlens ? op.cu_seqlens[0] - 1 : 1;
  const int64_t key_blocks = ceil_div(op.k[0], kKeys);
  const int64_t tasks = std::max<int64_t>(1, sequences * nheads_kv);
  const int64_t splits = std::clamp<int64_t>(ceil_div(kLeastTasks, tasks), 1, std::max<int64_t>(1, key_blocks));
  const bool again = !op.y || !op.lse;
  const bool direct = splits == 1 && op.dq.row_stride == nheads * headdim;
  float* r = cx.kept<float>(queries * (1 + (again ? headdim + 1 : 0) + (direct ? 0 : splits * headdim)));
  float* parts = r + queries;
  if (again) {
    Attention first = forward;
    op.lse = first.lse = rows_of(parts, tokens, nheads, 0);
    op.y = first.y = rows_of(parts + queries, tokens, nheads, headdim);
    parts += queries * (headdim + 1);
    run(first, cx);
  }
  row_products(op, op.y, r, cx);
  float* dq = direct ? op.dq.f32() : parts;
  if (op.dq) std::memset(dq, 0, splits * queries * headdim * sizeof(float));
  const AttentionPlan plan(forward, cx, kBlockRows);
  cx.parallel_for(sequences * nheads_kv * splits, [&](int64_t i, int worker) {
    const int64_t split = i % splits, head = i / splits % nheads_kv, sequence = i / splits / nheads_kv;
    const Workspace workspace(cx, worker, headdim);
    HeadGradient(op, plan, plan.span(sequence), head, r, workspace, cx)
        .run(split, splits, dq + split * queries * headdim);
  });
  if (!op.dq || direct) return;
  for_row_blocks(cx, tokens, nheads * headdim, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::memcpy(op.dq.row(t), dq + t * nheads * headdim, nheads * headdim * sizeof(float));
      for (int64_t s = 1; s < splits; ++s)
        add_to(op.dq.row(t), dq + (s * tokens + t) * nheads * headdim, nheads * headdim);
    }
  });
}

}  // namespace statespace::STATESPACE_ISA
