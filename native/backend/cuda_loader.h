#pragma once
// Finds and opens the CUDA backend's library, which is built and shipped on its own. Looked for in this order: the path
// in STATESPACE_CUDA_LIBRARY; the path given to set_cuda_library (JavaScript knows where a package of its own lies);
// beside the file that this code is in. Whatever is wrong with it becomes a reason, never a crash.
#include <string>

#include "backend/backend.h"

namespace statespace {

// nullptr and why, or the backend. The library stays open; a failure is looked at again by the next call.
const Backend* cuda_backend(std::string* reason);
const Backend* emulated_cuda_backend(std::string* reason);

void set_cuda_library(const std::string& path);

// Opens one library file.
const Backend* open_backend_library(const std::string& path, std::string* reason);

}  // namespace statespace
