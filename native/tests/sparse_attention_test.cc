#include "ops/sparse_attention.h"

#include <numeric>

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

struct Case {
  int64_t window, extent, block, top;
  bool gated, rotated;
  float log_floor;
};

constexpr int64_t kHeads = 4, kHeadsKv = 2, kDim = 5, kIndexHeads = 3, kIndexDim = 6, kPage = 4, kPages = 12, kRank = 3;

// Two sequences: 3 tokens behind 11 keys, 7 tokens from the beginning; their pages lie in any order.
const std::vector<int32_t> kBounds = {0, 3, 10}, kLengths = {14, 7};
const std::vector<int32_t> kTable = {7, 2, 9, 4, 1, 5, 3, 8};

int64_t place(int64_t s, int64_t head, int64_t heads, int64_t j, int64_t row) {
  return ((kTable[s * 4 + j / kPage] * heads + head) * kPage + j % kPage) * row;
}

}  // namespace

TEST_CASE("sparseAttention: windows, biases by distance, and chosen blocks") {
  const int64_t tokens = 10;
  each_backend([&](const Backend& backend) {
    for (const Case& c :
         {Case{0, 0, 1, 0, false, false, 0}, Case{5, 3, 1, 0, false, false, 2}, Case{0, 0, 3, 2, false, true, 0},
          Case{0, 0, 2, 2, true, false, 0}, Case{0, 0, 4, 9, true, false, 0}}) {
      CAPTURE(c.block);
      const int64_t width = c.gated ? 2 * kIndexDim : kIndexDim;
      auto q = uniform(tokens * kHeads * kDim, 1), k = uniform(kPages * kHeadsKv * kPage * kDim, 2);
      auto v = uniform(k.size(), 3), rel = uniform(tokens * kHeads * kRank, 4),
           proj = uniform(kRank * std::max<int64_t>(1, c.extent), 10);
      auto index_q = uniform(tokens * kIndexHeads * kIndexDim, 5), weights = uniform(tokens * kIndexHeads, 6);
      auto index_keys = uniform(kPages * kPage * width, 7), norm = uniform(kIndexDim, 8);
      auto ape = uniform(c.block * kIndexDim, 9);
      std::vector<float> freq = {0.7f, 0.1f}, y(q.size(), NAN), want(q.size());
      std::vector<int32_t> bounds = kBounds, lengths = kLengths, table = kTable;
      SparseAttention op;
      op.q = view(q, {tokens, kHeads, kDim});
      op.k = view(k, {kPages, kHeadsKv, kPage, kDim});
      op.v = view(v, {kPages, kHeadsKv, kPage, kDim});
      if (c.extent) op.rel = view(rel, {tokens, kHeads, kRank}), op.rel_proj = view(proj, {kRank, c.extent});
      op.cu_seqlens = view(bounds), op.key_lengths = view(lengths);
      op.page_table = view(table);
      op.page_table.rank = 2, op.page_table.shape[0] = 2, op.page_table.shape[1] = op.page_table.row_stride = 4;
      op.y = view(y, {tokens, kHeads, kDim});
      op.scale = 0.6f, op.window = c.window, op.log_floor = c.log_floor, op.log_alpha = 0.3f;
      if (c.top) {
        op.index_q = view(index_q, {tokens, kIndexHeads, kIndexDim});
        op.index_keys = view(index_keys, {kPages, 1, kPage, width});
        if (c.gated)
          op.index_ape = view(ape, {c.block, kIndexDim}), op.index_weights = view(weights, {tokens, kIndexHeads});
        else
          op.index_norm = view(norm, {kIndexDim});
        if (c.rotated) op.index_freq = view(freq, {2});
        op.block_size = c.block, op.top_blocks = c.top, op.index_scale = 0.4f;
      }
      for (int64_t t = 0; t < tokens; ++t) {
        const int64_t s = t >= kBounds[1], p = kLengths[s] - (kBounds[s + 1] - t);
        std::vector<bool> sees(p + 1, true);
        for (int64_t j = 0; j <= p; ++j) sees[j] = c.window == 0 || j > p - c.window;
        const int64_t count = c.top ? (p + 1) / c.block : 0;
        std::vector<double> score(count);
        for (int64_t b = 0; b < count; ++b) {
          double key[kIndexDim], squares = 0;
          for (int64_t d = 0; d < kIndexDim; ++d) {
            double total = 0, weighted = 0, mean = 0;
            for (int64_t j = 0; j < c.block; ++j) {
              const float* row = &index_keys[place(s, 0, 1, b * c.block + j, width)];
              const double e = c.gated ? std::exp(double(row[kIndexDim + d]) + ape[j * kIndexDim + d]) : 0;
              total += e, weighted += e * row[d], mean += row[d] / double(c.block);
            }
            key[d] = c.gated ? weighted / total : mean;
            squares += key[d] * key[d];
          }
          for (int64_t d = 0; d < kIndexDim && !c.gated; ++d)
            key[d] *= (1 + norm[d]) / std::sqrt(squares / kIndexDim + op.index_eps);
          for (int i = 0; i < 2 && c.rotated; ++i) {
            const double a = double(b * c.block) * freq[i], x = key[i], z = key[2 + i];
            key[i] = x * std::cos(a) - z * std::sin(a), key[2 + i] = z * std::cos(a) + x * std::sin(a);
          }
          for (int64_t h = 0; h < kIndexHeads; ++h) {
            double dot = 0;
            for (int64_t d = 0; d < kIndexDim; ++d) dot += index_q[(t * kIndexHeads + h) * kIndexDim + d] * key[d];
            score[b] += std::max(0.0, 0.4 * dot) * (c.gated ? weights[t * kIndexHeads + h] : 1);
          }
        }
        std::vector<int64_t> order(count);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return score[a] > score[b]; });
        for (int64_t r = c.top; r < count; ++r)
          for (int64_t j = 0; j < c.block; ++j) sees[order[r] * c.block + j] = false;
        const double tau = c.log_floor > 0 ? 1 + 0.3 * std::log(std::max(double(p + 1) / c.log_floor, 1.0)) : 1;
        for (int64_t h = 0; h < kHeads; ++h) {
          double total = 0, sum[kDim] = {};
          for (int64_t j = 0; j <= p; ++j) {
            if (!sees[j]) continue;
            const int64_t at = place(s, h / 2, kHeadsKv, j, kDim);
            double dot = 0;
            for (int64_t d = 0; d < kDim; ++d) dot += 0.6 * q[(t * kHeads + h) * kDim + d] * k[at + d];
            for (int64_t r = 0; r < kRank && p - j < c.extent; ++r)
              dot += rel[(t * kHeads + h) * kRank + r] * proj[r * c.extent + p - j];
            const double e = std::exp(tau * dot);
            total += e;
            for (int64_t d = 0; d < kDim; ++d) sum[d] += e * v[at + d];
          }
          for (int64_t d = 0; d < kDim; ++d) want[(t * kHeads + h) * kDim + d] = float(sum[d] / total);
        }
      }
      run(backend, op);
      CHECK(max_error(y, want) < 3e-6);
    }
  });
}

TEST_CASE("sparseAttention: a few queries of many heads that share their keys") {
  const int64_t tokens = 3, keys = 150, page = 4, pages = (keys + page - 1) / page, dim = 70;
  auto k = uniform(pages * page * dim, 2), v = uniform(k.size(), 3);
  std::vector<int32_t> bounds = {0, int32_t(tokens)}, lengths = {int32_t(keys)}, table(pages);
  for (int64_t i = 0; i < pages; ++i) table[i] = int32_t(pages - 1 - i);
  each_backend([&](const Backend& backend) {
    for (int64_t heads : {24, 12, 7, 1}) {
      CAPTURE(heads);
      auto q = uniform(tokens * heads * dim, 1);
      std::vector<float> y(q.size(), NAN), want(q.size());
      SparseAttention op;
      op.q = view(q, {tokens, heads, dim});
      op.k = view(k, {pages, 1, page, dim}), op.v = view(v, {pages, 1, page, dim});
      op.cu_seqlens = view(bounds), op.key_lengths = view(lengths), op.page_table = view(table);
      op.page_table.rank = 2, op.page_table.shape[0] = 1, op.page_table.shape[1] = op.page_table.row_stride = pages;
      op.y = view(y, {tokens, heads, dim});
      op.scale = 0.3f, op.window = 140;
      for (int64_t t = 0; t < tokens; ++t)
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t p = keys - tokens + t, at = (t * heads + h) * dim;
          std::vector<double> sum(dim);
          double total = 0;
          for (int64_t j = p - 139; j <= p; ++j) {
            const int64_t row = (table[j / page] * page + j % page) * dim;
            double dot = 0;
            for (int64_t d = 0; d < dim; ++d) dot += 0.3 * q[at + d] * k[row + d];
            total += std::exp(dot);
            for (int64_t d = 0; d < dim; ++d) sum[d] += std::exp(dot) * v[row + d];
          }
          for (int64_t d = 0; d < dim; ++d) want[at + d] = float(sum[d] / total);
        }
      run(backend, op);
      CHECK(max_error(y, want) < 3e-6);
    }
  });
}
