// Keys and values written into pages are where attention looks for them.
#include <cstring>

#include "support.h"

using namespace statespace;
using namespace statespace::test;

TEST_CASE("cacheAppend: tokens go to their sequences' pages, the rest stays") {
  each_backend([](const Backend& backend) {
    const int64_t heads = 2, headdim = 19, page_size = 4, pages = 5, max_pages = 3, tokens = 7;
    auto k = uniform(tokens * heads * headdim, 1), v = uniform(tokens * heads * headdim, 2);
    std::vector<int32_t> cu{0, 1, 1, 7}, positions{9, 2, 3, 4, 5, 6, 7};
    std::vector<int32_t> table{-1, -1, 3, 0, -1, -1, 4, 1, -1};
    // Sequence 0 writes position 9 (page 3, place 1); sequence 2 positions 2 to 7 (page 4, places 2 and 3, then page
    // 1).
    const int32_t page_of[] = {3, 4, 4, 1, 1, 1, 1}, place_of[] = {1, 2, 3, 0, 1, 2, 3};
    std::vector<float> k_pages(pages * heads * page_size * headdim, 9.f), v_pages = k_pages, want_k = k_pages,
                                                                          want_v = k_pages;
    for (int64_t t = 0; t < tokens; ++t)
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t d = 0; d < headdim; ++d) {
          const int64_t to = ((page_of[t] * heads + h) * page_size + place_of[t]) * headdim + d;
          want_k[to] = k[(t * heads + h) * headdim + d], want_v[to] = v[(t * heads + h) * headdim + d];
        }
    CacheAppend op;
    op.k = view(k, {tokens, heads, headdim}), op.v = view(v, {tokens, heads, headdim});
    op.cu_seqlens = view(cu), op.positions = view(positions);
    op.page_table = view(table);
    op.page_table.rank = 2, op.page_table.shape[0] = 3, op.page_table.shape[1] = max_pages;
    op.page_table.row_stride = max_pages;
    op.k_pages = view(k_pages, {pages, heads, page_size, headdim});
    op.v_pages = view(v_pages, {pages, heads, page_size, headdim});
    run(backend, op);
    CHECK(k_pages == want_k);
    CHECK(v_pages == want_v);
  });
}

TEST_CASE("cacheAppend: converts, and drops tokens whose page is gone") {
  each_backend([](const Backend& backend) {
    // Multiples of 1/8 are exact in bf16 and f16.
    const int64_t headdim = 5, tokens = 3;
    std::vector<float> k(tokens * headdim), v(tokens * headdim);
    for (size_t i = 0; i < k.size(); ++i) k[i] = float(i) / 8 - 1, v[i] = 1 - float(i) / 4;
    std::vector<int32_t> positions{0, 1, 2}, table{-1, 0};
    for (DType type : {DType::bf16, DType::f16}) {
      std::vector<uint16_t> k_pages(2 * headdim, 0xdead), v_pages = k_pages;
      CacheAppend op;
      op.k = view(k, {tokens, 1, headdim}), op.v = view(v, {tokens, 1, headdim});
      op.positions = view(positions), op.page_table = view(table);
      op.page_table.rank = 2, op.page_table.shape[0] = 1, op.page_table.shape[1] = 2, op.page_table.row_stride = 2;
      op.k_pages = view(k, {1, 1, 2, headdim}), op.v_pages = op.k_pages;
      op.k_pages.data = k_pages.data(), op.v_pages.data = v_pages.data();
      op.k_pages.dtype = op.v_pages.dtype = type;
      run(backend, op);
      // Only token 2, position 2, has a page: place 0 of page 0.
      auto widen = [&](uint16_t bits) {
        if (type == DType::f16) {
          const float size = std::ldexp(float(0x400 + (bits & 0x3ff)), (bits >> 10 & 31) - 25);
          return (bits & 0x7fff) == 0 ? 0.f : bits & 0x8000 ? -size : size;
        }
        const uint32_t u = uint32_t(bits) << 16;
        float f;
        std::memcpy(&f, &u, 4);
        return f;
      };
      for (int64_t d = 0; d < headdim; ++d) {
        CHECK(widen(k_pages[d]) == k[2 * headdim + d]);
        CHECK(widen(v_pages[d]) == v[2 * headdim + d]);
        CHECK(k_pages[headdim + d] == 0xdead);
      }
    }
  });
}
