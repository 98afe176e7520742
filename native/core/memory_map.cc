#include "core/memory_map.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
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

void* allocate_pages(int64_t bytes) {
#ifdef _WIN32
  void* p = VirtualAlloc(nullptr, size_t(bytes), MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
#else
  // Of what holds large pages, the beginning is one: newer systems see to it themselves.
  const int64_t more = bytes % kHugePage == 0 ? kHugePage - kPage : 0;
  void* p = mmap(nullptr, size_t(bytes + more), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) p = nullptr;
  if (p && more) {
    char* const begin = static_cast<char*>(p);
    const int64_t before = -intptr_t(begin) & (kHugePage - 1);
    if (before) munmap(begin, size_t(before));
    if (before < more) munmap(begin + before + bytes, size_t(more - before));
    p = begin + before;
  }
#endif
  if (!p) throw Error(Code::kOutOfMemory, "cannot allocate " + std::to_string(bytes) + " bytes");
  prefer_huge_pages(p, bytes);
  return p;
}

void free_pages(void* p, int64_t bytes) {
#ifdef _WIN32
  (void)bytes;
  VirtualFree(p, 0, MEM_RELEASE);
#else
  munmap(p, size_t(bytes));
#endif
}

void return_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void discard_pages(void* p, int64_t bytes) {
#ifdef _WIN32
  VirtualFree(p, size_t(bytes), MEM_DECOMMIT);
#else
  madvise(p, size_t(bytes), MADV_DONTNEED);
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

bool ReservedMemory::discard(int64_t offset, int64_t bytes) {
  const int64_t first = (offset + kPage - 1) / kPage * kPage, last = (offset + bytes) / kPage * kPage;
  if (last <= first) return false;
  char* const at = static_cast<char*>(data_);
  discard_pages(at + first, last - first);
#if defined(__linux__) || defined(_WIN32)
  std::memset(at + offset, 0, size_t(first - offset));  // what shares its page with others
  std::memset(at + last, 0, size_t(offset + bytes - last));
  return true;
#else
  return false;
#endif
}

#ifdef _WIN32
WeightFile::WeightFile(const std::string& path) : path_(path) {
  const int length = MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, nullptr, 0);
  std::wstring wide(length, L'\0');
  MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, wide.data(), length);
  HANDLE file = CreateFileW(wide.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, nullptr,
                            OPEN_EXISTING, 0, nullptr);
  LARGE_INTEGER size;
  if (file == INVALID_HANDLE_VALUE) throw Error(Code::kCheckpoint, path + ": cannot open");
  file_ = reinterpret_cast<intptr_t>(file);
  if (!GetFileSizeEx(file, &size)) {
    CloseHandle(file);
    throw Error(Code::kCheckpoint, path + ": cannot open");
  }
  bytes_ = size.QuadPart;
}
WeightFile::~WeightFile() { CloseHandle(reinterpret_cast<HANDLE>(file_)); }
#else
WeightFile::WeightFile(const std::string& path) : path_(path) {
  // Nothing that is no ordinary file: opening a pipe would wait for its writer.
  file_ = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat info;
  if (file_ >= 0 && fstat(int(file_), &info) == 0 && S_ISREG(info.st_mode)) {
    bytes_ = info.st_size;
    return;
  }
  const std::string why = file_ < 0 ? std::strerror(errno) : "it is no regular file";
  if (file_ >= 0) close(int(file_));
  throw Error(Code::kCheckpoint, path + ": cannot open: " + why);
}
WeightFile::~WeightFile() { close(int(file_)); }
#endif

void WeightFile::read(int64_t offset, int64_t bytes, void* to) const {
  for (int64_t done = 0; done < bytes;) {
    const int64_t wanted = std::min<int64_t>(bytes - done, 1 << 30);
#ifdef _WIN32
    OVERLAPPED at = {};
    at.Offset = DWORD(offset + done), at.OffsetHigh = DWORD((offset + done) >> 32);
    DWORD count = 0;
    const bool failed =
        !ReadFile(reinterpret_cast<HANDLE>(file_), static_cast<char*>(to) + done, DWORD(wanted), &count, &at) &&
        GetLastError() != ERROR_HANDLE_EOF;
    const int64_t got = failed ? -1 : int64_t(count);
    const std::string why = failed ? "error " + std::to_string(GetLastError()) : "";
#else
    const int64_t got = pread(int(file_), static_cast<char*>(to) + done, size_t(wanted), off_t(offset + done));
    if (got < 0 && errno == EINTR) continue;
    const std::string why = got < 0 ? std::strerror(errno) : "";
#endif
    if (got < 0) throw Error(Code::kCheckpoint, path_ + ": cannot read: " + why);
    if (got == 0)
      throw Error(Code::kCheckpoint, path_ + ": it held " + std::to_string(bytes_) + " bytes and now ends at " +
                                         std::to_string(offset + done) + ": it was changed while it was read");
    done += got;
  }
}

}  // namespace statespace
