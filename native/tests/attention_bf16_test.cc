// Attention of bf16 queries, keys and values against the definition in f64, on every backend: sequences short enough to
// be widened, and long enough to be multiplied by pairs (256 keys).
#include "attention_cases.h"

using namespace statespace;
using namespace statespace::test;
using namespace statespace::test::attention;

namespace {

// All of bf16, where rounding the weights is the only error beyond f32: each by 2^-9 of itself at most, which moves y,
// their mean of values in (-1, 1), by 2^-9 of two.
void agrees_in_bf16(Case c) {
  c.type_q = c.type_k = DType::bf16;
  agrees(c, 0x1p-8 + 1e-5);
}

}  // namespace

TEST_CASE("attention: bf16, any head size, causal and not, grouped") {
  for (int64_t headdim : {1, 2, 8, 15, 20, 31, 33, 34, 62, 64, 80, 128, 130})
    for (bool causal : {true, false})
      for (int64_t heads : {2, 6}) {
        CAPTURE(headdim);
        CAPTURE(causal);
        CAPTURE(heads);
        agrees_in_bf16({.queries = {41, 42},
                        .keys = {77, 301},
                        .heads = heads,
                        .heads_kv = 2,
                        .headdim = headdim,
                        .causal = causal});
      }
}

TEST_CASE("attention: bf16, lengths around the tile sizes, even and odd") {
  for (int32_t length : {5, 13, 14, 15, 16, 17, 31, 32, 33, 63, 223, 224, 225, 229, 511, 512, 513, 700})
    for (bool causal : {true, false}) {
      CAPTURE(length);
      CAPTURE(causal);
      agrees_in_bf16(
          {.queries = {length, length}, .keys = {length, length + 300}, .heads = 1, .headdim = 20, .causal = causal});
    }
  for (auto [queries, keys] : {std::pair{5, 14}, {9, 2600}, {9, 2601}, {40, 4097}, {300, 777}}) {
    CAPTURE(queries);
    CAPTURE(keys);
    agrees_in_bf16({.queries = {queries}, .keys = {keys}, .heads = 4, .heads_kv = 2, .headdim = 24});
  }
}

TEST_CASE("attention: bf16, windows, ragged and paged") {
  constexpr int64_t kHeaddims[] = {8, 20, 64};
  int at = 0;  // every window with every page size, the head's width in turn: all 84 together took 37 s under ASan
  for (int64_t window : {0, 1, 2, 5, 33, 100, 601})
    for (int64_t page_size : {0, 1, 16, 48}) {
      const int64_t headdim = kHeaddims[at++ % 3];
      CAPTURE(window);
      CAPTURE(page_size);
      CAPTURE(headdim);
      agrees_in_bf16({.queries = {1, 17, 9, 33, 650, 2, 20, 0, 50},
                      .keys = {1, 17, 613, 91, 651, 1030, 3, 5, 256},
                      .heads = 4,
                      .heads_kv = 2,
                      .headdim = headdim,
                      .window = window,
                      .page_size = page_size});
    }
}

TEST_CASE("attention: bf16, softcap and scales of either sign") {
  for (float softcap : {0.f, 5.f, 50.f})
    for (float scale : {1.5f, 0.3f, 0.f, -0.7f}) {
      CAPTURE(softcap);
      CAPTURE(scale);
      agrees_in_bf16({.queries = {61, 61}, .keys = {90, 291}, .headdim = 12, .softcap = softcap, .scale = scale});
      agrees({.queries = {61, 61}, .keys = {90, 291}, .headdim = 12, .softcap = softcap, .scale = scale});
    }
}
