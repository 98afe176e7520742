// Attention against the definition in f64, on every backend.
#include <algorithm>
#include <cstring>
#include <numeric>

#include "support.h"

using namespace statespace;
using namespace statespace::test;

namespace {

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

std::vector<int32_t> bounds(const std::vector<int32_t>& lengths) {
  std::vector<int32_t> b{0};
  for (int32_t n : lengths) b.push_back(b.back() + n);
  return b;
}

// The definition, one query at a time. k and v are packed (keys, heads_kv, headdim).
std::vector<float> definition(const Case& c, const std::vector<float>& q, const std::vector<float>& k,
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

std::vector<float> attend(const Case& c, const Backend& backend, std::vector<float>& expected,
                          ThreadPool& pool = ThreadPool::global()) {
  const int64_t tokens = std::accumulate(c.queries.begin(), c.queries.end(), int64_t{0});
  const int64_t keys = std::accumulate(c.keys.begin(), c.keys.end(), int64_t{0});
  Values q(uniform(tokens * c.heads * c.headdim, 1, -1.5f, 1.5f), c.type_q);
  Values k(uniform(keys * c.heads_kv * c.headdim, 2, -1.5f, 1.5f), c.type_k);
  Values v(uniform(keys * c.heads_kv * c.headdim, 3), c.type_k);
  expected = definition(c, q.f32, k.f32, v.f32);

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

// Half types round the weights where a backend multiplies in them.
void agrees(const Case& c) {
  each_backend([&](const Backend& backend) {
    std::vector<float> expected;
    const auto y = attend(c, backend, expected);
    CHECK(max_error(y, expected) <= (c.type_k == DType::f32 ? 1e-5 : 1e-2));
  });
}

}  // namespace

TEST_CASE("attention: any head size, causal and not") {
  for (int64_t headdim : {1, 5, 7, 8, 12, 16, 31, 33, 64, 80, 96, 128, 130})
    for (bool causal : {true, false}) {
      CAPTURE(headdim);
      CAPTURE(causal);
      agrees({.queries = {37}, .keys = {37}, .headdim = headdim, .causal = causal});
    }
}

TEST_CASE("attention: lengths around the tile sizes") {
  for (int32_t length : {1, 2, 13, 14, 15, 31, 32, 33, 63, 223, 225, 511, 512, 513, 700}) {
    CAPTURE(length);
    agrees({.queries = {length}, .keys = {length}, .heads = 1, .headdim = 12});
  }
}

TEST_CASE("attention: grouped and single key heads") {
  for (auto [heads, kv] : {std::pair{6, 2}, {5, 1}, {8, 8}, {32, 4}, {15, 5}}) {
    CAPTURE(heads);
    agrees({.queries = {45}, .keys = {45}, .heads = heads, .heads_kv = kv, .headdim = 16});
  }
}

TEST_CASE("attention: queries stand at the end of the keys") {
  for (auto [queries, keys] : {std::pair{1, 19}, {1, 1500}, {3, 1100}, {5, 14}, {9, 2600}, {40, 5000}, {300, 777}}) {
    CAPTURE(queries);
    CAPTURE(keys);
    agrees({.queries = {queries}, .keys = {keys}, .heads = 4, .heads_kv = 2, .headdim = 24});
    agrees({.queries = {queries}, .keys = {keys}, .heads = 4, .heads_kv = 2, .headdim = 24, .causal = false});
  }
}

TEST_CASE("attention: queries before the first key, and sequences without keys, yield zeros") {
  agrees({.queries = {9, 4, 20, 0}, .keys = {3, 0, 20, 5}, .heads = 2, .heads_kv = 1, .headdim = 6});
  agrees({.queries = {3}, .keys = {1}, .heads = 1, .headdim = 6});
}

TEST_CASE("attention: window") {
  for (int64_t window : {1, 2, 5, 20, 100, 600})
    for (auto [queries, keys] : {std::pair{1, 700}, {20, 20}, {650, 650}, {70, 1300}, {2, 3000}}) {
      CAPTURE(window);
      CAPTURE(queries);
      agrees({.queries = {queries}, .keys = {keys}, .headdim = 8, .window = window});
    }
  agrees({.queries = {50}, .keys = {50}, .causal = false, .window = 7});
}

TEST_CASE("attention: softcap and large scores") {
  for (float softcap : {0.f, 5.f, 50.f})
    for (auto [queries, keys] : {std::pair{1, 90}, {60, 90}}) {
      CAPTURE(softcap);
      agrees({.queries = {queries}, .keys = {keys}, .headdim = 12, .softcap = softcap, .scale = 1.5f});
    }
}

TEST_CASE("attention: ragged batches of prefill and decode, packed and paged, every type") {
  for (DType type : {DType::f32, DType::f16, DType::bf16})
    for (int64_t page_size : {0, 1, 16, 48})
      for (int64_t window : {0, 40})
        for (int64_t headdim : {5, 64}) {
          CAPTURE(dtype_name(type));
          CAPTURE(page_size);
          CAPTURE(window);
          CAPTURE(headdim);
          agrees({.queries = {1, 17, 1, 33, 250, 2, 1},
                  .keys = {1, 17, 613, 90, 250, 1030, 64},
                  .heads = 4,
                  .heads_kv = 2,
                  .headdim = headdim,
                  .window = window,
                  .type_k = type,
                  .page_size = page_size});
        }
}

TEST_CASE("attention: half-precision queries") {
  for (DType type : {DType::f16, DType::bf16})
    for (int32_t queries : {1, 70})
      agrees({.queries = {queries}, .keys = {130}, .headdim = 64, .type_q = type, .type_k = type});
}

TEST_CASE("attention: rows may lie apart, as in a fused projection") {
  each_backend([](const Backend& backend) {
    const int64_t tokens = 30, heads = 4, kv = 2, headdim = 10, width = (heads + 2 * kv) * headdim;
    auto qkv = uniform(tokens * width, 9);
    std::vector<float> q, k, v, expected_y(tokens * heads * headdim), y(tokens * 50, 7.f);
    for (int64_t t = 0; t < tokens; ++t) {
      const float* row = &qkv[t * width];
      q.insert(q.end(), row, row + heads * headdim);
      k.insert(k.end(), row + heads * headdim, row + (heads + kv) * headdim);
      v.insert(v.end(), row + (heads + kv) * headdim, row + width);
    }
    Case c{.queries = {30}, .keys = {30}, .heads = heads, .heads_kv = kv, .headdim = headdim};
    const auto expected = definition(c, q, k, v);
    Attention op;
    op.q = view(qkv, {tokens, heads, headdim}), op.k = view(qkv, {tokens, kv, headdim}), op.v = op.k;
    op.k.data = &qkv[heads * headdim], op.v.data = &qkv[(heads + kv) * headdim];
    op.y = view(y, {tokens, heads, headdim});
    op.q.row_stride = op.k.row_stride = op.v.row_stride = width, op.y.row_stride = 50;
    op.scale = c.scale;
    run(backend, op);
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t i = 0; i < 50; ++i)
        CHECK(y[t * 50 + i] == doctest::Approx(i < 40 ? expected[t * 40 + i] : 7.f).epsilon(1e-5));
  });
}

TEST_CASE("attention: hidden keys and values may be anything") {
  each_backend([](const Backend& backend) {
    for (DType type : {DType::f32, DType::bf16})
      for (int64_t window : {0, 9}) {
        const int64_t tokens = 60, cut = 37, headdim = 16;
        auto base_k = uniform(tokens * headdim, 5), base_v = uniform(tokens * headdim, 6);
        auto q_values = uniform(tokens * headdim, 4);
        std::vector<float> y[2];
        for (int bad : {0, 1}) {
          auto k_values = base_k, v_values = base_v;
          for (int64_t i = cut * headdim; bad && i < tokens * headdim; ++i)
            k_values[i] = i % 2 ? NAN : INFINITY, v_values[i] = i % 3 ? NAN : -INFINITY;
          Values k(k_values, type), v(v_values, type);
          y[bad].assign(tokens * headdim, NAN);
          Attention op;
          op.q = view(q_values, {tokens, 1, headdim}), op.y = view(y[bad], {tokens, 1, headdim});
          op.k = k.view({tokens, 1, headdim}), op.v = v.view({tokens, 1, headdim});
          op.window = window;
          run(backend, op);
          y[bad].resize(cut * headdim);
        }
        CHECK(max_error(y[0], y[1]) == 0);
      }
  });
}

TEST_CASE("attention: a key at minus infinity has no weight, even in a block of its own") {
  each_backend([](const Backend& backend) {
    const int64_t keys = 1100, headdim = 4;
    for (int64_t queries : {1, 20}) {
      std::vector<float> q(queries * headdim, 1.f), k(keys * headdim, -INFINITY), v(keys * headdim, 3.f);
      std::vector<float> y(queries * headdim, NAN);
      for (int64_t d = 0; d < headdim; ++d) k[1050 * headdim + d] = 0.5f, v[1050 * headdim + d] = -2;
      Attention op;
      op.q = view(q, {queries, 1, headdim}), op.y = view(y, {queries, 1, headdim});
      op.k = view(k, {keys, 1, headdim}), op.v = view(v, {keys, 1, headdim});
      op.causal = false;
      run(backend, op);
      for (float x : y) CHECK(x == doctest::Approx(-2));
    }
  });
}

TEST_CASE("attention: results do not depend on the number of threads") {
  ThreadPool one(1), three(3);
  each_backend([&](const Backend& backend) {
    const Case c{.queries = {1, 300, 9}, .keys = {3000, 300, 4500}, .heads = 4, .heads_kv = 2, .headdim = 20};
    std::vector<float> expected;
    CHECK(max_error(attend(c, backend, expected, one), attend(c, backend, expected, three)) == 0);
  });
}

TEST_CASE("attention: no tokens") {
  each_backend([](const Backend& backend) {
    std::vector<float> q(1), k(1), y(1, 5.f);
    Attention op;
    op.q = view(q, {0, 2, 4}), op.k = op.v = view(k, {0, 1, 4}), op.y = view(y, {0, 2, 4});
    run(backend, op);
    CHECK(y[0] == 5.f);
  });
}

TEST_CASE("attention: what does not fit together is named") {
  std::vector<float> q(24), y(24);
  Attention op;
  op.q = view(q, {2, 3, 4}), op.y = view(y, {2, 3, 4});
  op.k = op.v = view(q, {3, 2, 4});
  CHECK_THROWS_WITH(check(op), "attention: nheads 3 is no multiple of nheads_kv 2");
  op.k = op.v = view(q, {1, 1, 4, 4});
  CHECK_THROWS_WITH(check(op), "attention: paged keys need pageTable and keyLengths");
}
