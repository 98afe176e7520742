// One instruction set's op table; compiled with the kernels, once per instruction set.
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

template <class... Ops>
void fill(Backend& b, OpList<Ops...>) {
  Backend::Run table[] = {invoke<Ops>...};
  for (int i = 0; i < kOpCount; ++i) b.run[i] = table[i];
}

}  // namespace

void fill_table(Backend& b) {
  b.name = STATESPACE_STRING(STATESPACE_ISA);
  fill(b, AllOps{});
  b.packed = packed;
  b.pack = pack;
}

}  // namespace statespace::STATESPACE_ISA
