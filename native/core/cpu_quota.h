#pragma once
// How many cores a container pays for.
#include <string>

namespace statespace {

// Cores of processor time a second that the control groups of this process allow (cgroup v1 or v2, the tightest of the
// group and those around it); 1e9 without a limit. `root`: where /proc and /sys lie, for tests.
double cpu_quota(const std::string& root = "");

}  // namespace statespace
