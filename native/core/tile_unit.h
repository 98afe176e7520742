#pragma once
// A matrix unit beside the vector registers, where a backend uses one.
#include <cstdint>

namespace statespace {

// amx: Intel's tiles. emulated: the same program over tiles in plain memory, for tests on machines without them.
enum class TileUnit : uint8_t { none, amx, emulated };

}  // namespace statespace
