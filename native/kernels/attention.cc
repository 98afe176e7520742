#include "ops/attention.h"

#include <algorithm>
#include <type_traits>
#include <utility>

#include "backend/kernels.h"
#include "kernels/attention_blocks.h"
#include "kernels/attention_pairs.h"
#include "kernels/attention_plan.h"
#include "kernels/attention_rows.h"
#include "kernels/attention_tile.h"

namespace statespace::STATESPACE_ISA {
namespace {

// One worker's memory for one task.
struct Workspace {
  float *q, *out, *shrink, *keys, *values, *scores;
  RowState* states;
  const void** addresses;  // 2 × kBlockKeys

  Workspace(const Context& cx, int worker, int64_t headdim) {
    const int64_t width = round_up(headdim, kWide);
    const int64_t sizes[] = {kBlockRows * width, kBlockRows * width,
                             kMostRows,          kBlockKeys * width,
                             kBlockKeys * width, kMostRows * kScoreStride,
                             2 * kBlockRows,     2 * kBlockKeys * int64_t(sizeof(void*) / sizeof(float))};
    int64_t total = 0;
    for (int64_t n : sizes) total += round_up(n, 16);
    float* p = cx.local<float>(worker, total);
    int i = 0;
    auto next = [&] {
      float* here = p;
      p += round_up(sizes[i++], 16);
      return here;
    };
    q = next(), out = next(), shrink = next(), keys = next(), values = next(), scores = next();
    states = reinterpret_cast<RowState*>(next());
    addresses = reinterpret_cast<const void**>(next());
  }
};

// Queries and results that are fetched ahead: rows of one head are as far apart as those of keys.
constexpr int64_t kFetchedRows = 8;

// The logarithm of Σ 2^score from its maximum and the rest.
float log_sum(float max, float sum) { return sum == 0 ? 0 : (max + std::log2(sum)) * 0.69314718f; }

template <class Fn>
void with_float(DType type, Fn&& fn) {
  if (type == DType::f32) return fn(float{});
  if (type == DType::f16) return fn(f16_t{});
  fn(bf16_t{});
}

class Block {
 public:
  Block(const Attention& op, const AttentionPlan& plan, const Task& task, const Workspace& w, const Context& cx)
      : op_(op),
        plan_(plan),
        task_(task),
        span_(plan.span(task.sequence)),
        w_(w),
        cx_(cx),
        headdim_(plan.headdim),
        width_(round_up(headdim_, kWide)),
        first_(plan.first_row(task)),
        rows_(plan.rows(span_, task.block)),
        all_rows_(rows_ * task.heads),
        scale_(op.softcap > 0 ? op.scale / op.softcap : op.scale * kLog2e) {}

  void run() {
    for (int64_t r = 0; r < all_rows_; ++r) w_.states[r] = RowState{};
    with_float(op_.k.dtype, [&](auto type) { attend<decltype(type)>(); });
    cx_.check_stop();
    span_.splits > 1 ? keep_partial() : finish();
  }

 private:
  template <class T>
  void attend() {
    if (rows_ <= kFewRows) return few_rows<T>();
#if defined(STATESPACE_BF16_DOT)
    if constexpr (std::is_same_v<T, bf16_t>)
      if (span_.keys >= kPairKeys && has_bf16_dot()) return pairs();
#endif
    panels<T, FloatTiles>();
  }

#if defined(STATESPACE_BF16_DOT)
  void pairs() {
#if defined(STATESPACE_TILES)
    if (cx_.tiles == TileUnit::amx) return panels<bf16_t, UnitTiles<AmxTiles>>();
    if (cx_.tiles == TileUnit::emulated) return panels<bf16_t, UnitTiles<EmulatedTiles>>();
#endif
    panels<bf16_t, PairTiles>();
  }
#endif

  template <class T, class Tiles>
  void panels() {
    static_assert(Tiles::kRows <= kMostRows && kBlockRows % Tiles::kRows == 0);
    Tiles::begin();
    load_queries(round_up(rows_, Tiles::kRows), reinterpret_cast<typename Tiles::Query*>(w_.q),
                 Tiles::query_scale(scale_), [&](int64_t r, int64_t d) { return Tiles::query_at(headdim_, r, d); });
    each_block<T>([&](const T* const* keys, const T* const* values, int64_t begin, int64_t end) {
      Tiles::pack_keys(keys, end - begin, headdim_, w_.keys);
      Tiles::pack_values(values, end - begin, headdim_, w_.values);
      for (int64_t r = 0; r < rows_; r += Tiles::kRows) panel<Tiles>(r, begin, end);
    });
    Tiles::end();
  }

  // Calls fn with the addresses of each block of keys and values, and its range.
  template <class T, class Fn>
  void each_block(Fn&& fn) const {
    const Visible range = plan_.keys(task_);
    const KeyRows<T> keys(op_, op_.k, span_, task_.sequence, task_.head);
    const KeyRows<T> values(op_, op_.v, span_, task_.sequence, task_.head);
    const T** key_rows = reinterpret_cast<const T**>(w_.addresses);
    for (int64_t j = range.begin; j < range.end; j += kBlockKeys) {
      if (is_stopped(cx_.stop)) break;  // run() throws when the unit is given back
      const int64_t end = j + kBlockKeys < range.end ? j + kBlockKeys : range.end;
      const T** value_rows = key_rows + (end - j);
      keys.addresses(j, end, key_rows);
      values.addresses(j, end, value_rows);
      fn(key_rows, value_rows, j, end);
    }
  }

  // Rows of all heads of the task, those of one head after the other.
  int64_t token(int64_t r) const { return (first_ + r % rows_) / plan_.group; }
  int64_t head(int64_t r) const { return (task_.head + r / rows_) * plan_.group + (first_ + r % rows_) % plan_.group; }

  template <class T>
  const T* query(int64_t r) const {
    return op_.q.as<T>() + (span_.query0 + token(r)) * op_.q.row_stride + head(r) * headdim_;
  }

  // to[at(row, channel)] = scale · q, and sums of zeros; rows and channels that do not exist are zero.
  template <class To, class At>
  void load_queries(int64_t rows, To* to, float scale, At&& at) const {
    for (int64_t i = 0; i < rows * width_; ++i) w_.q[i] = w_.out[i] = 0;
    with_float(op_.q.dtype, [&](auto type) {
      using T = decltype(type);
      for (int64_t r = 0; r < all_rows_; ++r) {
        const T* q = query<T>(r);
        const T* next = query<T>(r + kFetchedRows < all_rows_ ? r + kFetchedRows : r);
        for (int64_t d = 0; d < headdim_; d += 64 / sizeof(T)) prefetch(next + d);
        for (int64_t d = 0; d < headdim_; ++d) from_float(to_float(q[d]) * scale, to[at(r, d)]);
      }
    });
  }

  // What row r sees of keys [begin, end), counted from begin.
  Visible seen(int64_t r, int64_t begin, int64_t end) const {
    Visible v = plan_.visible(span_, token(r));
    v.begin = v.begin < begin ? 0 : v.begin - begin;
    v.end = (v.end > end ? end : v.end) - begin;
    if (v.begin > end - begin) v.begin = end - begin;
    if (v.end < v.begin) v.end = v.begin;
    return v;
  }

  template <class Tiles>
  float soften_row(int64_t r, const Visible& v, float* scores) {
    if (v.begin == v.end) return 1;
    const float factor = Tiles::score_scale(scale_);
    if (op_.softcap > 0) cap(scores, v.begin / kLanes * kLanes, v.end, factor, op_.softcap);
    return soften<Tiles>(scores, v.begin, v.end, op_.softcap > 0 ? 1 : factor, w_.states[r]);
  }

  // Rows [r0, r0 + Tiles::kRows) against the packed keys [begin, end).
  template <class Tiles>
  void panel(int64_t r0, int64_t begin, int64_t end) {
    const int64_t count = rows_ - r0 < Tiles::kRows ? rows_ - r0 : Tiles::kRows;
    Visible each[Tiles::kRows], any{end, 0}, all{0, end};
    for (int64_t i = 0; i < count; ++i) {
      const Visible v = each[i] = seen(r0 + i, begin, end);
      if (v.begin < v.end && v.begin < any.begin) any.begin = v.begin;
      if (v.begin < v.end && v.end > any.end) any.end = v.end;
      if (v.begin > all.begin) all.begin = v.begin;
      if (v.end < all.end) all.end = v.end;
    }
    if (any.begin >= any.end) return;
    all.begin = round_up(all.begin, Tiles::kTogether), all.end = all.end / Tiles::kTogether * Tiles::kTogether;
    if (all.begin > all.end) all.begin = all.end = end - begin;
    Tiles::score(w_.q + r0 * Tiles::words(headdim_), w_.keys, headdim_, any.begin / kWide * kWide, any.end, w_.scores);
    for (int64_t i = 0; i < Tiles::kRows; ++i)
      w_.shrink[i] = i < count ? soften_row<Tiles>(r0 + i, each[i], w_.scores + i * kScoreStride) : 0;
    float* out = w_.out + r0 * width_;
    Tiles::blend(w_.scores, w_.values, headdim_, all.begin, all.end, w_.shrink, out, width_);
    for (int64_t i = 0; i < count; ++i) {
      const float* p = w_.scores + i * kScoreStride;
      const int64_t before = each[i].end < all.begin ? each[i].end : all.begin;
      const int64_t after = each[i].begin > all.end ? each[i].begin : all.end;
      if (each[i].begin < before) Tiles::blend_row(p, w_.values, headdim_, each[i].begin, before, out + i * width_);
      if (after < each[i].end) Tiles::blend_row(p, w_.values, headdim_, after, each[i].end, out + i * width_);
    }
  }

  template <class T>
  void few_rows() {
    std::fill_n(w_.q, all_rows_ * width_, 0.0f);
    std::fill_n(w_.out, all_rows_ * width_, 0.0f);
    with_float(op_.q.dtype, [&](auto type) {
      for (int64_t r = 0; r < all_rows_; ++r) {
        const auto* q = query<decltype(type)>(r);
        float* to = w_.q + r * width_;
        each_channel<T>(headdim_, [&](int64_t d, int64_t place) { to[place] = to_float(q[d]) * scale_; });
      }
    });
    const Visible range = plan_.keys(task_);
    for (int64_t j = range.begin; j < range.end; j += kBlockKeys) few_rows<T>({j, std::min(j + kBlockKeys, range.end)});
  }

  // Keys as they lie, and then values: part by part, all heads of a part one after the other. While a part of one head
  // is read, what follows is fetched.
  template <class T>
  void few_rows(const Visible& range) {
    const KeyRows<T> keys(op_, op_.k, span_, task_.sequence, task_.head);
    const KeyRows<T> values(op_, op_.v, span_, task_.sequence, task_.head);
    const int64_t part = keys.run(kPartKeys), before = range.begin / part;
    const int64_t heads = task_.heads, units = (ceil_div(range.end, part) - before) * heads;
    auto first_key = [&](int64_t unit) { return std::max(range.begin, (before + unit % units / heads) * part); };
    auto address = [&](int64_t unit) { return (unit < units ? keys : values).address(first_key(unit), unit % heads); };
    const T* here = address(0);
    for (int64_t unit = 0; unit < 2 * units; ++unit) {
      const T* next = unit + 1 < 2 * units ? address(unit + 1) : nullptr;
      const int64_t row = unit % heads * rows_, begin = first_key(unit);
      const int64_t end = std::min(range.end, (begin / part + 1) * part), j = begin - range.begin;
      const RowRun<T> run(here, (unit < units ? keys : values).row_stride(), end - begin, next, headdim_);
      if (unit == units) soften_rows(range);
      unit < units ? score_part(run, row, j) : blend_part(run, row, j, range);
      here = next;
    }
  }

  void soften_rows(const Visible& range) {
    for (int64_t r = 0; r < all_rows_; ++r) {
      const Visible v = seen(r, range.begin, range.end);
      const float shrink = soften_row<FloatTiles>(r, v, w_.scores + r * kScoreStride);
      for (int64_t d = 0; d < width_; ++d) w_.out[r * width_ + d] *= shrink;
    }
  }

  template <class T>
  void score_part(const RowRun<T>& keys, int64_t row, int64_t j) {
    each_rows(rows_, [&]<int kRows>(int64_t r) {
      score_rows<kRows>(w_.q + (row + r) * width_, width_, keys, w_.scores + (row + r) * kScoreStride + j);
    });
  }

  // Only what a row sees: a hidden value may be anything, even NaN.
  template <class T>
  void blend_part(const RowRun<T>& values, int64_t row, int64_t j, const Visible& range) {
    Visible each[kFewRows];
    bool same = true;
    for (int64_t r = 0; r < rows_; ++r) {
      const Visible v = seen(row + r, range.begin, range.end);
      each[r] = {std::clamp<int64_t>(v.begin - j, 0, values.count), std::clamp<int64_t>(v.end - j, 0, values.count)};
      same = same && each[r].begin == each[0].begin && each[r].end == each[0].end;
    }
    auto blend = [&]<int kRows>(int64_t r) {
      blend_rows<kRows>(w_.scores + (row + r) * kScoreStride + j, values, each[r].begin, each[r].end,
                        w_.out + (row + r) * width_, width_);
    };
    if (same) return each_rows(rows_, blend);
    for (int64_t r = 0; r < rows_; ++r) blend.template operator()<1>(r);
  }

  // A row's sums, times scale, in the order of channels.
  void hand_out(int64_t r, float scale, float* to) const {
    const float* from = w_.out + r * width_;
    auto copy = [&](int64_t d, int64_t place) { to[d] = from[place] * scale; };
    const bool paired = rows_ <= kFewRows && op_.k.dtype == DType::bf16;
    paired ? each_channel<bf16_t>(headdim_, copy) : each_channel<float>(headdim_, copy);
  }

  void finish() {
    for (int64_t r = 0; r < all_rows_; ++r) {
      const float sum = w_.states[r].sum, scale = sum == 0 ? 0 : 1 / sum;
      prefetch_sums(r + kFetchedRows);
      hand_out(r, scale, sums(r));
      if (op_.lse) op_.lse.row(span_.query0 + token(r))[head(r)] = log_sum(w_.states[r].max, sum);
    }
  }

  float* sums(int64_t r) const { return op_.y.row(span_.query0 + token(r)) + head(r) * headdim_; }

  void prefetch_sums(int64_t r) const {
    if (r >= all_rows_) return;
    for (int64_t d = 0; d < headdim_; d += 16) prefetch(sums(r) + d);
  }

  void keep_partial() {
    for (int64_t r = 0; r < all_rows_; ++r) {
      float* to = plan_.partial(span_, task_.head + r / rows_, task_.split) + r % rows_ * (headdim_ + 2);
      hand_out(r, 1, to);
      to[headdim_] = w_.states[r].max;
      to[headdim_ + 1] = w_.states[r].sum;
    }
  }

  const Attention& op_;
  const AttentionPlan& plan_;
  const Task task_;
  const Span& span_;
  const Workspace& w_;
  const Context& cx_;
  const int64_t headdim_, width_, first_, rows_, all_rows_;
  const float scale_;  // to units of log2, or of the softcap
};

// y of one row from the parts that its key ranges left.
void combine(const Attention& op, const AttentionPlan& plan, const Span& span, int64_t head, int64_t row) {
  const int64_t headdim = plan.headdim;
  float* y = op.y.row(span.query0 + row / plan.group) + (head * plan.group + row % plan.group) * headdim;
  auto part = [&](int64_t split) { return plan.partial(span, head, split) + row * (headdim + 2); };
  float highest = kNoMax, sum = 0;
  for (int64_t i = 0; i < span.splits; ++i) highest = part(i)[headdim] > highest ? part(i)[headdim] : highest;
  for (int64_t d = 0; d < headdim; ++d) y[d] = 0;
  for (int64_t i = 0; i < span.splits; ++i) {
    const float* p = part(i);
    const float weight = std::exp2(p[headdim] - highest);
    sum += weight * p[headdim + 1];
    for (int64_t d = 0; d < headdim; ++d) y[d] += weight * p[d];
  }
  for (int64_t d = 0; d < headdim; ++d) y[d] = sum == 0 ? 0 : y[d] / sum;
  if (op.lse) op.lse.row(span.query0 + row / plan.group)[head * plan.group + row % plan.group] = log_sum(highest, sum);
}

}  // namespace

template <>
void run(const Attention& op, Context& cx) {
  if (op.q[0] == 0) return;
  const AttentionPlan plan(op, cx, kBlockRows);
  cx.parallel_for(plan.tasks(), [&](int64_t i, int worker) {
    const Workspace workspace(cx, worker, plan.headdim);
    Block(op, plan, plan.task(i), workspace, cx).run();
  });
  cx.parallel_for(plan.sequences() * op.k[1], [&](int64_t i, int) {
    const Span& span = plan.span(i / op.k[1]);
    for (int64_t row = 0; span.splits > 1 && row < span.queries * plan.group; ++row)
      combine(op, plan, span, i % op.k[1], row);
  });
}

}  // namespace statespace::STATESPACE_ISA
