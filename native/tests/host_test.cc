// What the package takes from its host: cores that a container pays for, files that others change, memory.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "core/cpu_quota.h"
#include "core/error.h"
#include "core/memory_map.h"
#include "core/recycled.h"

namespace statespace::test {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path = fs::temp_directory_path() / ("statespace-host-" + std::to_string(std::rand()));
  Folder() { fs::create_directories(path); }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, const std::string& text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name) << text;
  }
};

}  // namespace

TEST_CASE("a control group's quota: version 2, version 1, both, none") {
  {
    const Folder host;  // nothing is there: macOS, or an odd mount
    CHECK(cpu_quota(host.path) > 1e6);
  }
  {
    const Folder host;  // a container with a namespace of its own
    host.write("proc/self/cgroup", "0::/\n");
    host.write("sys/fs/cgroup/cpu.max", "150000 100000\n");
    CHECK(cpu_quota(host.path) == doctest::Approx(1.5));
  }
  {
    const Folder host;  // a service: the group around it is tighter
    host.write("proc/self/cgroup", "0::/system.slice/app.service\n");
    host.write("sys/fs/cgroup/cpu.max", "max 100000\n");
    host.write("sys/fs/cgroup/system.slice/cpu.max", "200000 100000\n");
    host.write("sys/fs/cgroup/system.slice/app.service/cpu.max", "400000 100000\n");
    CHECK(cpu_quota(host.path) == doctest::Approx(2));
  }
  {
    const Folder host;  // version 1 inside a container: the path is the host's
    host.write("proc/self/cgroup", "11:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n");
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n");
    host.write("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    CHECK(cpu_quota(host.path) == doctest::Approx(0.5));
  }
  {
    const Folder host;  // version 1 without a limit
    host.write("proc/self/cgroup", "4:cpu:/x\n");
    host.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
    host.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    CHECK(cpu_quota(host.path) > 1e6);
  }
}

TEST_CASE("a file of weights that is cut short while it is read is an error") {
  const Folder folder;
  folder.write("weights", std::string(100'000, 'x'));
  const WeightFile file((folder.path / "weights").string());
  REQUIRE(file.bytes() == 100'000);
  std::vector<char> to(100'000);
  file.read(10, 99'990, to.data());
  CHECK(to[99'989] == 'x');
  fs::resize_file(folder.path / "weights", 5'000);
  CHECK_THROWS_WITH_AS(file.read(0, 100'000, to.data()), doctest::Contains("was changed while it was read"), Error);
  CHECK_THROWS_AS(WeightFile(folder.path.string()), Error);
  CHECK_THROWS_AS(WeightFile((folder.path / "absent").string()), Error);
}

TEST_CASE("recycled memory is used again, bounded, and goes back to the system when idle") {
  const int64_t size = Recycled::rounded(40 << 20);
  void* first = Recycled::take(size);
  std::memset(first, 1, size_t(size));
  Recycled::give(first, size);
  CHECK(Recycled::kept() == size);
  CHECK(Recycled::take(size) == first);
  Recycled::give(first, size);
  std::vector<void*> many;
  for (int i = 0; i < 20; ++i) many.push_back(Recycled::take(size));
  for (void* p : many) Recycled::give(p, size);
  CHECK(Recycled::kept() <= 256 << 20);
  // Small ones are cut from large ones: one that is still held stays as it is when its neighbours go.
  const int64_t row = Recycled::rounded(200'000);
  std::vector<char*> rows;
  for (int i = 0; i < 20; ++i) std::memset(rows.emplace_back(static_cast<char*>(Recycled::take(row))), i, size_t(row));
  for (int i = 0; i < 20; ++i) CHECK((rows[i][0] == i && rows[i][row - 1] == i));
  for (int i = 0; i < 20; ++i)
    if (i != 9) Recycled::give(rows[i], row);
  for (int i = 0; i < 3000 && Recycled::kept() > 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  CHECK(Recycled::kept() == 0);
  CHECK(std::all_of(rows[9], rows[9] + row, [](char c) { return c == 9; }));
  Recycled::give(rows[9], row);
}

}  // namespace statespace::test
