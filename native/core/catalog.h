#pragma once
// The ops as data: what TypeScript, the reference page and the tests read. JSON, one object an op.
#include <string>

namespace statespace {

std::string catalog_json();

}  // namespace statespace
