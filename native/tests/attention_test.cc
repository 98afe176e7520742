// Attention against the definition in f64, on every backend.
#include "attention_cases.h"

using namespace statespace;
using namespace statespace::test;
using namespace statespace::test::attention;

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
        const int64_t tokens = type == DType::f32 ? 60 : 300, cut = tokens - 23, headdim = 16;
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
    for (DType type : {DType::f32, DType::bf16})
      for (int64_t queries : {1, 20}) {
        std::vector<float> q(queries * headdim, 1.f), y(queries * headdim, NAN);
        std::vector<float> key_values(keys * headdim, -INFINITY), value_values(keys * headdim, 3.f);
        for (int64_t i = 1050 * headdim; i < 1051 * headdim; ++i) key_values[i] = 0.5f, value_values[i] = -2;
        Values k(key_values, type), v(value_values, type);
        Attention op;
        op.q = view(q, {queries, 1, headdim}), op.y = view(y, {queries, 1, headdim});
        op.k = k.view({keys, 1, headdim}), op.v = v.view({keys, 1, headdim});
        op.causal = false;
        run(backend, op);
        for (float x : y) CHECK(x == doctest::Approx(-2));
      }
  });
}

TEST_CASE("attention: results do not depend on the number of threads") {
  ThreadPool one(1), three(3);
  each_backend([&](const Backend& backend) {
    for (DType type : {DType::f32, DType::bf16}) {
      const Case c{
          .queries = {1, 300, 9}, .keys = {3000, 300, 4500}, .heads = 4, .heads_kv = 2, .headdim = 20, .type_k = type};
      std::vector<float> expected;
      CHECK(max_error(attend(c, backend, expected, one), attend(c, backend, expected, three)) == 0);
    }
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
