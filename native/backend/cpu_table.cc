// One instruction set's op table; compiled with the kernels, once per instruction set.
#include "backend/backend.h"
#include "backend/cpu_tables.h"
#include "backend/kernels.h"

#define STATESPACE_STRING_(x) #x
#define STATESPACE_STRING(x) STATESPACE_STRING_(x)

namespace statespace::STATESPACE_ISA {
namespace {

template <class Op>
void invoke(const void* op, Context& cx) {
  run(*static_cast<const Op*>(op), cx);
}

// The same kernels with a matrix unit beside them.
template <class Op, TileUnit kUnit>
void invoke_with(const void* op, Context& cx) {
  Context with = cx;
  with.tiles = kUnit;
  run(*static_cast<const Op*>(op), with);
}

template <TileUnit kUnit, class... Ops>
void fill(Backend& b, OpList<Ops...>) {
  Backend::Run table[] = {(kUnit == TileUnit::none ? invoke<Ops> : invoke_with<Ops, kUnit>)...};
  for (int i = 0; i < kOpCount; ++i) b.run[i] = table[i];
}

}  // namespace

void fill_table(Backend& b) {
  b.name = STATESPACE_STRING(STATESPACE_ISA);
  fill<TileUnit::none>(b, AllOps{});
  b.packed = packed;
  b.pack = pack;
}

#if defined(STATESPACE_ISA_AVX512) && defined(STATESPACE_TILE_TABLES)
void fill_tile_table(Backend& b, TileUnit unit) {
  fill_table(b);
  if (unit == TileUnit::amx)
    b.name = "amx", fill<TileUnit::amx>(b, AllOps{});
  else
    b.name = "amx-emulated", fill<TileUnit::emulated>(b, AllOps{});
}
#endif

}  // namespace statespace::STATESPACE_ISA
