#pragma once
// Attention against its definition in f64: cases, and the sequences and pages that they describe.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "support.h"

namespace statespace::test::attention {

// Values of any float type, as tensors hold them and as f64 reads them.
struct Values {
  std::vector<float> f32;
  std::vector<uint16_t> bits;
  DType type = DType::f32;

  static uint16_t bf16(float x) {
    uint32_t u;
    std::memcpy(&u, &x, 4);
    return uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
  // x in (-2, 2), rounded to multiples of 2^-6: exact in f16, whose bits follow from the integer.
  static uint16_t f16(float x) {
    int n = int(std::lround(std::fabs(x) * 64));
    if (n == 0) return 0;
    int e = 0;
    while (n >> (e + 1)) ++e;
    return uint16_t((x < 0 ? 0x8000 : 0) | (e - 6 + 15) << 10 | (n - (1 << e)) << (10 - e));
  }

  Values(std::vector<float> x, DType type) : f32(std::move(x)), type(type) {
    for (auto& v : f32) {
      if (type == DType::bf16) {
        bits.push_back(bf16(v));
        const uint32_t u = uint32_t(bits.back()) << 16;
        std::memcpy(&v, &u, 4);
      } else if (type == DType::f16) {
        v = std::lround(v * 64) / 64.f;
        bits.push_back(f16(v));
      }
    }
  }
  Tensor view(std::initializer_list<int64_t> shape) {
    Tensor t = test::view(f32, shape);
    t.dtype = type;
    if (type != DType::f32) t.data = bits.data();
    return t;
  }
};

struct Case {
  std::vector<int32_t> queries{16}, keys{16};
  int64_t heads = 2, heads_kv = 1, headdim = 8;
  bool causal = true;
  int64_t window = 0;
  float softcap = 0, scale = 0.3f;
  DType type_q = DType::f32, type_k = DType::f32;
  int64_t page_size = 0;  // 0: packed keys
};

inline std::vector<int32_t> bounds(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> b{0};
  for (int32_t n : lengths) b.push_back(b.back() + n);
  return b;
}

// The definition, one query at a time. k and v are packed (keys, heads_kv, headdim).
inline std::vector<float> definition(const Case& c, const std::vector<float>& q, const std::vector<float>& k,
                                     const std::vector<float>& v) {
  std::vector<float> y(q.size());
  const auto bq = bounds(c.queries), bk = bounds(c.keys);
  for (size_t s = 0; s < c.queries.size(); ++s)
    for (int64_t i = 0; i < c.queries[s]; ++i)
      for (int64_t h = 0; h < c.heads; ++h) {
        const int64_t at = i + c.keys[s] - c.queries[s], g = h / (c.heads / c.heads_kv);
        const float* qi = &q[((bq[s] + i) * c.heads + h) * c.headdim];
        std::vector<double> w, sums(c.headdim, 0);
        std::vector<int64_t> seen;
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < c.keys[s]; ++j) {
          if ((c.causal || c.window > 0) && j > at) continue;
          if (c.window > 0 && j <= at - c.window) continue;
          const float* kj = &k[((bk[s] + j) * c.heads_kv + g) * c.headdim];
          double dot = 0;
          for (int64_t d = 0; d < c.headdim; ++d) dot += double(qi[d]) * kj[d];
          dot *= c.scale;
          if (c.softcap > 0) dot = c.softcap * std::tanh(dot / c.softcap);
          w.push_back(dot), seen.push_back(j), top = std::max(top, dot);
        }
        for (size_t n = 0; n < w.size(); ++n) {
          const double p = std::exp(w[n] - top);
          total += p;
          const float* vj = &v[((bk[s] + seen[n]) * c.heads_kv + g) * c.headdim];
          for (int64_t d = 0; d < c.headdim; ++d) sums[d] += p * vj[d];
        }
        for (int64_t d = 0; d < c.headdim; ++d)
          y[((bq[s] + i) * c.heads + h) * c.headdim + d] = total > 0 ? float(sums[d] / total) : 0.f;
      }
  return y;
}

// Packed keys scattered into pages in a shuffled order; pages that no query sees are left out (-1), and what lies
// behind the last key is NaN.
struct Pages {
  std::vector<float> k, v;
  std::vector<int32_t> table;
  int64_t count = 0, max_pages = 0;

  Pages(const Case& c, const std::vector<float>& packed_k, const std::vector<float>& packed_v) {
    for (int32_t n : c.keys) max_pages = std::max<int64_t>(max_pages, (n + c.page_size - 1) / c.page_size);
    max_pages += 1;
    table.assign(c.keys.size() * max_pages, -1);
    const int64_t page_values = c.heads_kv * c.page_size * c.headdim;
    const auto bk = bounds(c.keys);
    for (size_t s = c.keys.size(); s-- > 0;) {
      const int64_t first = c.window > 0 ? std::max<int64_t>(0, c.keys[s] - c.queries[s] + 1 - c.window) : 0;
      for (int64_t j = c.keys[s] - 1; j >= first; --j) {
        int32_t& page = table[s * max_pages + j / c.page_size];
        if (page < 0) {
          page = int32_t(count++);
          k.resize(count * page_values, NAN), v.resize(count * page_values, NAN);
        }
        for (int64_t h = 0; h < c.heads_kv; ++h)
          for (int64_t d = 0; d < c.headdim; ++d) {
            const int64_t to = page * page_values + (h * c.page_size + j % c.page_size) * c.headdim + d;
            const int64_t from = ((bk[s] + j) * c.heads_kv + h) * c.headdim + d;
            k[to] = packed_k[from], v[to] = packed_v[from];
          }
      }
    }
  }
};

// y on a backend; `expected` is what it should be, computed where it is empty.
inline std::vector<float> attend(const Case& c, const Backend& backend, std::vector<float>& expected,
                                 ThreadPool& pool = ThreadPool::global()) {
  const int64_t tokens = std::accumulate(c.queries.begin(), c.queries.end(), int64_t{0});
  const int64_t keys = std::accumulate(c.keys.begin(), c.keys.end(), int64_t{0});
  Values q(uniform(tokens * c.heads * c.headdim, 1, -1.5f, 1.5f), c.type_q);
  Values k(uniform(keys * c.heads_kv * c.headdim, 2, -1.5f, 1.5f), c.type_k);
  Values v(uniform(keys * c.heads_kv * c.headdim, 3), c.type_k);
  if (expected.empty()) expected = definition(c, q.f32, k.f32, v.f32);

  std::vector<float> y(expected.size(), NAN);
  std::vector<int32_t> cu_q = bounds(c.queries), cu_k = bounds(c.keys), lengths = c.keys;
  Attention op;
  op.q = q.view({tokens, c.heads, c.headdim});
  op.y = view(y, {tokens, c.heads, c.headdim});
  op.cu_seqlens = view(cu_q);
  op.causal = c.causal, op.window = c.window, op.softcap = c.softcap, op.scale = c.scale;
  if (c.page_size == 0) {
    op.k = k.view({keys, c.heads_kv, c.headdim});
    op.v = v.view({keys, c.heads_kv, c.headdim});
    op.cu_seqlens_k = view(cu_k);
    run(backend, op, pool);
  } else {
    Pages pages(c, k.f32, v.f32);
    Values pk(pages.k, c.type_k), pv(pages.v, c.type_k);
    op.k = pk.view({pages.count, c.heads_kv, c.page_size, c.headdim});
    op.v = pv.view({pages.count, c.heads_kv, c.page_size, c.headdim});
    op.page_table = view(pages.table);
    op.page_table.rank = 2;
    op.page_table.shape[0] = int64_t(c.keys.size()), op.page_table.shape[1] = pages.max_pages;
    op.page_table.row_stride = pages.max_pages;
    op.key_lengths = view(lengths);
    run(backend, op, pool);
  }
  return y;
}

// Half types round the queries and the weights where a backend multiplies in them.
inline double bound(const Case& c) { return c.type_k == DType::f32 ? 1e-5 : 1e-2; }

inline void agrees(const Case& c, double within) {
  std::vector<float> expected;
  const auto check = [&](const Backend& backend) {
    const auto y = attend(c, backend, expected);
    CHECK(max_error(y, expected) <= within);
  };
  c.type_k == DType::bf16 ? each_backend_and_tiles(check) : each_backend(check);
}
inline void agrees(const Case& c) { agrees(c, bound(c)); }

}  // namespace statespace::test::attention
