#pragma once
// Channels that are normalised in groups.
#include <string>

#include "core/error.h"
#include "core/tensor.h"

namespace statespace {

inline void check_group_size(const std::string& op, const Tensor& x, int64_t group_size) {
  if (group_size < 0 || (group_size > 0 && x[1] % group_size != 0))
    throw Error(Code::kShape, op + ": " + std::to_string(x[1]) + " channels are no multiple of groupSize " +
                                  std::to_string(group_size));
}

}  // namespace statespace
