#include "core/memory_map.h"

#include <cerrno>
#include <cstring>

#include "core/error.h"

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace statespace {
namespace {

constexpr int64_t kPage = 4096, kHugePage = 2 << 20;

}  // namespace

void prefer_huge_pages(void* p, int64_t bytes) {
#ifdef MADV_HUGEPAGE
  const uintptr_t begin = reinterpret_cast<uintptr_t>(p), end = begin + uintptr_t(bytes);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage, last = end / kHugePage * kHugePage;
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#else
  (void)p, (void)bytes;
#endif
}

ReservedMemory::ReservedMemory(int64_t bytes, int64_t least) {
  for (; bytes >= least && bytes > 0; bytes /= 2) {
#ifdef _WIN32
    data_ = VirtualAlloc(nullptr, size_t(bytes), MEM_RESERVE, PAGE_READWRITE);
#else
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
#ifdef MAP_NORESERVE
    flags |= MAP_NORESERVE;
#endif
    data_ = mmap(nullptr, size_t(bytes), PROT_READ | PROT_WRITE, flags, -1, 0);
    if (data_ == MAP_FAILED) data_ = nullptr;
#endif
    if (data_) {
      bytes_ = bytes;
      return;
    }
  }
  throw Error(Code::kOutOfMemory, "cannot reserve " + std::to_string(least) + " bytes of address space");
}

ReservedMemory::~ReservedMemory() {
  if (!data_) return;
#ifdef _WIN32
  VirtualFree(data_, 0, MEM_RELEASE);
#else
  munmap(data_, size_t(bytes_));
#endif
}

void ReservedMemory::commit(int64_t offset, int64_t bytes) {
#ifdef _WIN32
  if (!VirtualAlloc(static_cast<char*>(data_) + offset, size_t(bytes), MEM_COMMIT, PAGE_READWRITE))
    throw Error(Code::kOutOfMemory, "cannot commit " + std::to_string(bytes) + " bytes");
#else
  (void)offset, (void)bytes;
#endif
}

void ReservedMemory::discard(int64_t offset, int64_t bytes) {
  const int64_t first = (offset + kPage - 1) / kPage * kPage, last = (offset + bytes) / kPage * kPage;
  if (last <= first) return;
#ifdef _WIN32
  VirtualFree(static_cast<char*>(data_) + first, size_t(last - first), MEM_DECOMMIT);
#else
  madvise(static_cast<char*>(data_) + first, size_t(last - first), MADV_DONTNEED);
#endif
}

#ifdef _WIN32
MappedFile::MappedFile(const std::string& path) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring wide(length, L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide.data(), length);
  HANDLE file = CreateFileW(wide.c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING, 0, nullptr);
  LARGE_INTEGER size;
  if (file == INVALID_HANDLE_VALUE || !GetFileSizeEx(file, &size))
    throw Error(Code::kCheckpoint, path + ": cannot open");
  bytes_ = size.QuadPart;
  handle_ = bytes_ ? CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr) : nullptr;
  CloseHandle(file);
  if (!bytes_) return;
  data_ = handle_ ? static_cast<const uint8_t*>(MapViewOfFile(handle_, FILE_MAP_READ, 0, 0, 0)) : nullptr;
  if (!data_) throw Error(Code::kCheckpoint, path + ": cannot map");
}
MappedFile::~MappedFile() {
  if (data_) UnmapViewOfFile(data_);
  if (handle_) CloseHandle(handle_);
}
#else
MappedFile::MappedFile(const std::string& path) {
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info;
  if (file < 0 || fstat(file, &info) != 0) {
    const std::string why = std::strerror(errno);
    if (file >= 0) close(file);
    throw Error(Code::kCheckpoint, path + ": cannot open: " + why);
  }
  bytes_ = info.st_size;
  void* p = bytes_ ? mmap(nullptr, size_t(bytes_), PROT_READ, MAP_PRIVATE, file, 0) : nullptr;
  close(file);
  if (p == MAP_FAILED) throw Error(Code::kCheckpoint, path + ": cannot map: " + std::strerror(errno));
  data_ = static_cast<const uint8_t*>(p);
}
MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<uint8_t*>(data_), size_t(bytes_));
}
#endif

}  // namespace statespace
