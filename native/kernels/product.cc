#include "kernels/product.h"

namespace statespace::STATESPACE_ISA {

[[gnu::flatten]] void add_product(int64_t m, int64_t n, int64_t k, Strided a, const float* b, int64_t b_stride,
                                  float* c, int64_t c_stride) {
  each_tile(m, n, [&](auto place) {
    Tile tile(place);
    tile.read(c, c_stride);
    tile.add(k, a, b, b_stride);
    tile.write(c, c_stride);
  });
}

}  // namespace statespace::STATESPACE_ISA
