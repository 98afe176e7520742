#include "core/cpu_quota.h"

#include <algorithm>
#include <fstream>
#include <sstream>

namespace statespace {
namespace {

constexpr double kNone = 1e9;

// The first words of a file as numbers; false where it is not there or says something else ("max").
bool read_numbers(const std::string& path, double* first, double* second = nullptr) {
  std::ifstream file(path);
  return bool(file >> *first) && (!second || bool(file >> *second));
}

double quota_v2(const std::string& folder) {
  double quota, period;
  return read_numbers(folder + "/cpu.max", &quota, &period) && period > 0 ? quota / period : kNone;
}

double quota_v1(const std::string& folder) {
  double quota, period;
  return read_numbers(folder + "/cpu.cfs_quota_us", &quota) && read_numbers(folder + "/cpu.cfs_period_us", &period) &&
                 quota > 0 && period > 0
             ? quota / period
             : kNone;
}

// The tightest of a group and the groups around it. Inside a container the path may be the host's, of which nothing is
// to be seen but its mount.
template <class Fn>
double tightest(const std::string& mount, std::string path, Fn quota) {
  double least = quota(mount);
  while (path.size() > 1) {
    least = std::min(least, quota(mount + path));
    path.resize(path.find_last_of('/'));
  }
  return least;
}

}  // namespace

double cpu_quota(const std::string& root) {
  double least = kNone;
  const std::string mounts = root + "/sys/fs/cgroup";
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "0::/path" or "4:cpu,cpuacct:/path"
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) {
      for (const char* mount : {"", "/unified"}) least = std::min(least, tightest(mounts + mount, path, quota_v2));
      continue;
    }
    std::istringstream names(controllers);
    for (std::string name; std::getline(names, name, ',');) {
      if (name != "cpu") continue;
      for (const std::string& mount : {controllers, std::string("cpu"), std::string("cpu,cpuacct")})
        least = std::min(least, tightest(mounts + "/" + mount, path, quota_v1));
    }
  }
  return least;
}

}  // namespace statespace
