#include "emulator.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "device.h"
#include "fiber.h"

namespace statespace::cuda {

emulated::Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {
namespace {

enum class State : uint8_t { ready, collective, barrier, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes, valid;
  int group;
};

struct Lane {
  Fiber fiber;
  State state = State::done;
  const char* what = "";  // the collective that it waits in
  void* payload = nullptr;
  void (*resolve)(void* const*) = nullptr;
  Where where;
  std::vector<Copy> copies;
  int copy_group = 0;
};

// In which order a block's warps and lanes, and the blocks, run.
class Order {
 public:
  Order() {
    const char* text = std::getenv("STATESPACE_EMULATED_ORDER");
    if (!text || !*text || !std::strcmp(text, "forward")) return;
    if (!std::strcmp(text, "reverse")) {
      reverse_ = true;
    } else {
      char* end;
      seed_ = std::strtoull(text, &end, 10);
      if (*end) fail_launch("STATESPACE_EMULATED_ORDER must be forward, reverse or a number");
      permute_ = true;
    }
  }
  // A permutation of [0, count).
  void fill(std::vector<int>& order, int count) {
    order.resize(count);
    for (int i = 0; i < count; ++i) order[i] = reverse_ ? count - 1 - i : i;
    if (!permute_) return;
    for (int i = count - 1; i > 0; --i) std::swap(order[i], order[random() % (i + 1)]);
  }
  // Seeded orders interleave the warps; the others let a warp run as far as it can.
  bool interleaves() const { return permute_; }

 private:
  uint64_t random() {  // splitmix64
    uint64_t z = seed_ += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
  }
  bool reverse_ = false, permute_ = false;
  uint64_t seed_ = 0;
};

constexpr size_t kRedZone = 4096;
constexpr unsigned char kPoison = 0xff;  // NaN as f32, f16 and bf16

struct Device {
  std::mutex launching;
  std::unique_ptr<Lane[]> lanes = std::make_unique<Lane[]>(1024);
  int threads = 0;
  int current = 0;
  void (*body)(const void*) = nullptr;
  const void* args = nullptr;
  size_t shared_used = 0;
  std::string failure;
  alignas(128) unsigned char shared[kRedZone + kMaxShared + kRedZone];

  std::mutex memory_mutex;
  std::map<uintptr_t, int64_t> memory;

  Lane& lane() { return lanes[current]; }
  bool failed() const { return !failure.empty(); }
};

Device& device() {
  static Device* d = new Device;  // never destroyed: kernels may run while the process ends
  return *d;
}

std::string name_of(int thread) { return "thread " + std::to_string(thread); }

std::string place(const Where& w) {
  if (w.line() == 0) return "";
  const char* slash = std::strrchr(w.file_name(), '/');
  return std::string(" at ") + (slash ? slash + 1 : w.file_name()) + ":" + std::to_string(w.line());
}

void thread_main(void*) {
  Device& d = device();
  d.body(d.args);
  Lane& lane = d.lane();
  if (!lane.copies.empty() && !d.failed())
    d.failure = name_of(d.current) + " ended with an asynchronous copy that it never waited for";
  lane.state = State::done;
  lane.fiber.suspend(true);
}

void wait_as(State state) {
  Lane& lane = device().lane();
  lane.state = state;
  lane.fiber.suspend();
}

void resume(int thread) {
  Device& d = device();
  d.current = thread;
  threadIdx.x = unsigned(thread);
  d.lanes[thread].fiber.resume();
}

std::string describe(int thread) {
  const Lane& lane = device().lanes[thread];
  if (lane.state == State::done) return name_of(thread) + " has ended";
  return name_of(thread) + " waits in " + lane.what + place(lane.where);
}

bool same_call(const Lane& a, const Lane& b) {
  return a.state == b.state && a.resolve == b.resolve && a.where.line() == b.where.line() &&
         a.where.column() == b.where.column() && !std::strcmp(a.where.file_name(), b.where.file_name());
}

// After every lane of a warp stopped: performs its collective. Whether it may run on.
bool settle_warp(int warp) {
  Device& d = device();
  Lane* lanes = &d.lanes[warp * kWarp];
  const auto waits = std::find_if(lanes, lanes + kWarp, [](Lane& l) { return l.state == State::collective; });
  if (waits == lanes + kWarp) return false;
  void* payloads[kWarp];
  for (int i = 0; i < kWarp; ++i) {
    if (!same_call(lanes[i], *waits)) {
      d.failure = "a warp's lanes part: " + describe(int(waits - &d.lanes[0])) + ", but " + describe(warp * kWarp + i);
      return false;
    }
    payloads[i] = lanes[i].payload;
  }
  waits->resolve(payloads);
  for (int i = 0; i < kWarp; ++i) lanes[i].state = State::ready;
  return true;
}

// Lets the warp's ready lanes run to their next stop. Whether there was one.
bool step_warp(int warp, Order& order, std::vector<int>& lanes) {
  Device& d = device();
  order.fill(lanes, kWarp);
  bool ran = false;
  for (int i : lanes) {
    const int thread = warp * kWarp + i;
    if (d.lanes[thread].state != State::ready) continue;
    ran = true;
    resume(thread);
    if (d.failed()) return false;
  }
  if (ran) settle_warp(warp);
  return ran && !d.failed();
}

// After every warp stopped: opens the barrier. False when the block has ended, well or not.
bool settle_block() {
  Device& d = device();
  const auto waits = std::find_if(&d.lanes[0], &d.lanes[d.threads], [](Lane& l) { return l.state == State::barrier; });
  if (waits == &d.lanes[d.threads]) return false;
  for (int i = 0; i < d.threads; ++i)
    if (!same_call(d.lanes[i], *waits)) {
      d.failure = "a block's threads part: " + describe(int(waits - &d.lanes[0])) + ", but " + describe(i);
      return false;
    }
  for (int i = 0; i < d.threads; ++i) d.lanes[i].state = State::ready;
  return true;
}

void check_red_zones() {
  Device& d = device();
  auto stained = [&](size_t begin, size_t end) {
    return std::any_of(d.shared + begin, d.shared + end, [](unsigned char b) { return b != kPoison; });
  };
  if (!d.failed() && (stained(0, kRedZone) || stained(kRedZone + d.shared_used, sizeof(d.shared))))
    d.failure = "a store outside the block's shared memory";
}

void run_block(Order& order) {
  Device& d = device();
  std::memset(d.shared, kPoison, sizeof(d.shared));
  d.shared_used = 0;
  for (int i = 0; i < d.threads; ++i) {
    Lane& lane = d.lanes[i];
    lane.state = State::ready;
    lane.copies.clear();
    lane.copy_group = 0;
    lane.fiber.start(thread_main, nullptr);
  }
  std::vector<int> warps, lanes;
  do {
    for (bool ran = true; ran && !d.failed();) {
      ran = false;
      order.fill(warps, d.threads / kWarp);
      for (int warp : warps) {
        bool stepped = step_warp(warp, order, lanes);
        ran |= stepped;
        while (stepped && !order.interleaves()) stepped = step_warp(warp, order, lanes);
        if (d.failed()) return;
      }
    }
  } while (!d.failed() && settle_block());
  check_red_zones();
}

}  // namespace

void run_grid(Dim3 grid, unsigned threads, void (*body)(const void*), const void* args) {
  Device& d = device();
  std::lock_guard lock(d.launching);
  if (threads == 0 || threads > 1024 || threads % kWarp != 0)
    return fail_launch("a block of " + std::to_string(threads) + " threads: must be a multiple of 32, at most 1024");
  d.threads = int(threads), d.body = body, d.args = args;
  d.failure.clear();
  gridDim = grid, blockDim = {threads, 1, 1};
  Order order;
  std::vector<int> blocks;
  order.fill(blocks, int(grid.x * grid.y * grid.z));
  for (int i : blocks) {
    const unsigned b = unsigned(i);
    blockIdx = {b % grid.x, b / grid.x % grid.y, b / grid.x / grid.y};
    run_block(order);
    if (!d.failed()) continue;
    return fail_launch(d.failure + " (block " + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
                       std::to_string(blockIdx.z) + ")");
  }
}

void fail(std::string why, Where where) {
  Device& d = device();
  d.failure = name_of(d.current) + place(where) + ": " + why;
  std::string().swap(why);  // nothing on this stack is destroyed any more
  d.lane().fiber.suspend(true);
  std::abort();  // an ended thread is not resumed
}

void barrier(Where where) {
  Lane& lane = device().lane();
  lane.what = "barrier", lane.resolve = nullptr, lane.where = where;
  wait_as(State::barrier);
}

void collective(const char* what, void* payload, void (*resolve)(void* const*), Where where) {
  Lane& lane = device().lane();
  lane.what = what, lane.payload = payload, lane.resolve = resolve, lane.where = where;
  wait_as(State::collective);
}

void* shared_memory(size_t bytes) {
  Device& d = device();
  d.shared_used = std::max(d.shared_used, bytes);
  return d.shared + kRedZone;
}

bool in_shared(const void* p, size_t bytes) {
  const Device& d = device();
  const auto* first = static_cast<const unsigned char*>(p);
  return first >= d.shared + kRedZone && first + bytes <= d.shared + kRedZone + d.shared_used;
}

void copy_async(void* to, const void* from, size_t bytes, size_t valid, Where where) {
  Device& d = device();
  if (!in_shared(to, bytes)) fail("an asynchronous copy to outside shared memory", where);
  if (reinterpret_cast<uintptr_t>(to) % bytes || (valid && reinterpret_cast<uintptr_t>(from) % bytes))
    fail("an asynchronous copy of " + std::to_string(bytes) + " bytes is not aligned", where);
  std::memset(to, kPoison, bytes);
  d.lane().copies.push_back({to, from, bytes, valid, d.lane().copy_group});
}

void copy_async_commit() { ++device().lane().copy_group; }

void copy_async_wait(int groups_left) {
  Lane& lane = device().lane();
  const int landed = lane.copy_group - groups_left;
  std::erase_if(lane.copies, [&](const Copy& c) {
    if (c.group >= landed) return false;
    if (c.valid) std::memcpy(c.to, c.from, c.valid);
    std::memset(static_cast<char*>(c.to) + c.valid, 0, c.bytes - c.valid);
    return true;
  });
}

void* allocate(int64_t bytes) {
  const size_t size = (size_t(std::max<int64_t>(bytes, 1)) + 255) / 256 * 256;
  void* p = std::aligned_alloc(256, size);
  if (!p) return nullptr;
  std::memset(p, kPoison, size);
  Device& d = device();
  std::lock_guard lock(d.memory_mutex);
  d.memory[reinterpret_cast<uintptr_t>(p)] = bytes;
  return p;
}

bool release(void* p) {
  Device& d = device();
  std::lock_guard lock(d.memory_mutex);
  if (!d.memory.erase(reinterpret_cast<uintptr_t>(p))) return false;
  std::free(p);
  return true;
}

bool is_device_memory(const void* p, int64_t bytes) {
  Device& d = device();
  std::lock_guard lock(d.memory_mutex);
  const auto begin = reinterpret_cast<uintptr_t>(p);
  auto next = d.memory.upper_bound(begin);
  if (next == d.memory.begin()) return false;
  const auto& [base, size] = *std::prev(next);
  return begin + uintptr_t(bytes) <= base + uintptr_t(size);
}

}  // namespace emulated
}  // namespace statespace::cuda
