#include "backend/cuda_loader.h"

#include <cstdlib>
#include <mutex>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#else
#include <dlfcn.h>
#endif

namespace statespace {
namespace {

using Entry = const Backend* (*)(const char** reason);
constexpr const char* kEntry = "statespace_backend";

#if defined(_WIN32)
constexpr const char *kPrefix = "", *kSuffix = ".dll";
void* open_library(const char* path) { return reinterpret_cast<void*>(LoadLibraryA(path)); }
std::string open_error() { return "error " + std::to_string(GetLastError()); }
void* find_symbol(void* library, const char* name) {
  return reinterpret_cast<void*>(GetProcAddress(static_cast<HMODULE>(library), name));
}
std::string own_path() {
  HMODULE module = nullptr;
  char path[MAX_PATH] = "";
  GetModuleHandleExA(GET_MODULE_HANDLE_EX_FLAG_FROM_ADDRESS | GET_MODULE_HANDLE_EX_FLAG_UNCHANGED_REFCOUNT,
                     reinterpret_cast<const char*>(&own_path), &module);
  GetModuleFileNameA(module, path, sizeof(path));
  return path;
}
#else
#if defined(__APPLE__)
constexpr const char *kPrefix = "lib", *kSuffix = ".dylib";
#else
constexpr const char *kPrefix = "lib", *kSuffix = ".so";
#endif
void* open_library(const char* path) { return dlopen(path, RTLD_NOW | RTLD_LOCAL); }
std::string open_error() {
  const char* e = dlerror();
  return e ? e : "unknown error";
}
void* find_symbol(void* library, const char* name) { return dlsym(library, name); }
std::string own_path() {
  Dl_info info;
  return dladdr(reinterpret_cast<void*>(&own_path), &info) && info.dli_fname ? info.dli_fname : "";
}
#endif

std::string beside(const std::string& file, const std::string& name) {
  const size_t slash = file.find_last_of("/\\");
  return slash == std::string::npos ? "./" + name : file.substr(0, slash + 1) + name;
}

// What the table says of itself, read before anything in it is called: the first field is the ABI number in every
// version, the second the number of ops.
std::string mismatch(const Backend& b) {
  if (b.abi != kBackendAbi)
    return "was built for backend ABI " + std::to_string(b.abi) + ", this package needs " + std::to_string(kBackendAbi);
  if (b.op_count != kOpCount || b.ops_fingerprint != kOpsFingerprint)
    return "was built for another set of ops; use the library of the same release";
  return "";
}

struct Found {
  std::mutex mutex;
  std::string given;  // by set_cuda_library
  const Backend* cuda = nullptr;
  const Backend* emulated = nullptr;
};

Found& found() {
  static Found* f = new Found;  // outlives static destructors: models may end after them
  return *f;
}

// The file to open: where nobody said one, the library beside this code.
std::string library_path(const std::string& name, const std::string& given) {
  const char* variable = std::getenv("STATESPACE_CUDA_LIBRARY");
  if (variable && *variable) return variable;
  if (!given.empty()) return given;
  return beside(own_path(), kPrefix + name + kSuffix);
}

const Backend* load(const char* name, const char* library, const Backend*& known, const std::string& given,
                    std::string* reason) {
  if (known) return known;
  const std::string path = library_path(library, given);
  const Backend* backend = open_backend_library(path, reason);
  if (!backend) {
    if (path == beside(own_path(), kPrefix + std::string(library) + kSuffix))
      *reason += "; install the package with the CUDA kernels, or name their library in STATESPACE_CUDA_LIBRARY";
    return nullptr;
  }
  if (std::string(backend->name) != name) {
    *reason = path + ": holds the backend '" + backend->name + "', not '" + name + "'";
    return nullptr;
  }
  return known = backend;
}

}  // namespace

const Backend* open_backend_library(const std::string& path, std::string* reason) {
  void* library = open_library(path.c_str());
  if (!library) {
    *reason = "cannot open " + path + ": " + open_error();
    return nullptr;
  }
  const auto entry = reinterpret_cast<Entry>(find_symbol(library, kEntry));
  const Backend* backend = nullptr;
  const char* why = nullptr;
  if (!entry) {
    why = "is no statespace backend: it exports no statespace_backend";
  } else {
    try {
      backend = entry(&why);
    } catch (...) {
      why = "failed to start";
    }
  }
  std::string wrong = backend ? mismatch(*backend) : why && *why ? why : "gave no backend and no reason";
  if (wrong.empty()) return backend;
  *reason = path + ": " + wrong;  // it stays open: the CUDA runtime inside may have registered exit handlers
  return nullptr;
}

const Backend* cuda_backend(std::string* reason) {
  std::lock_guard lock(found().mutex);
  return load("cuda", "statespace_cuda", found().cuda, found().given, reason);
}

const Backend* emulated_cuda_backend(std::string* reason) {
  std::lock_guard lock(found().mutex);
  return load("cuda-emulated", "statespace_cuda_emulated", found().emulated, "", reason);
}

void set_cuda_library(const std::string& path) {
  std::lock_guard lock(found().mutex);
  found().given = path;
}

}  // namespace statespace
