#pragma once
// The device behind a backend: device_nvcc.h's in runtime_nvcc.cu, the emulated one in runtime_emulated.cc.
#include <string>

namespace statespace {
struct Backend;  // only declared: every kernel includes this, and the table brings half of the standard library
}

namespace statespace::cuda {

// Fills the table's name and memory functions; empty, or why there is no usable device.
std::string open_device(Backend& table);
// Waits for the stream; failures go to fail_launch().
void wait_for_device();

// One per op, in its .cu.
template <class Op>
void run(const Op& op);

}  // namespace statespace::cuda
