#include "core/scratch.h"

#include <cstdlib>
#include <new>
#include <string>

#include "core/error.h"
#include "core/memory_map.h"

namespace statespace {

void* aligned_alloc_bytes(int64_t bytes) {
  if (bytes <= 0) bytes = 1;
  void* p = ::operator new (static_cast<size_t>(bytes), std::align_val_t{64}, std::nothrow);
  if (!p) throw Error(Code::kOutOfMemory, "cannot allocate " + std::to_string(bytes) + " bytes");
  prefer_huge_pages(p, bytes);
  return p;
}

void aligned_free(void* p) {
  if (p) ::operator delete (p, std::align_val_t{64});
}

}  // namespace statespace
