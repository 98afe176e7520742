#pragma once
// Values of the runtime tensors (not only their shapes) that a kernel uses as addresses: cuSeqlens, slots, ids, pages.
// For callers that did not make these themselves.
#include <string>

#include "core/op_fields.h"

namespace statespace {

// Checks every runtime tensor of an op, by its name `op`, whose other tensors are bound and checked.
void check_runtime(const std::string& op, const OpFields& fields);

}  // namespace statespace
