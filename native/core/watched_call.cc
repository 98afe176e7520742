#include "core/watched_call.h"

#include <chrono>

namespace statespace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kCalls = 64, kNone = -1;
constexpr auto kBetween = std::chrono::milliseconds(5);
constexpr int kLooksAClock = 4;  // looks at the flag for each look at the clock

struct alignas(64) Call {
  std::atomic<bool> flag{true};  // first: its address is the call's
  std::atomic<bool> taken{false}, ended{false};
};
Call calls[kCalls];

// What the thread that made the call knows of it.
struct Own {
  int slot = kNone;
  WatchedCall::Ended ended = nullptr;
  const void* caller = nullptr;
  Clock::time_point next;  // zero at first: most calls never look at the clock
  int looks = 0;
};
thread_local Own own;

}  // namespace

WatchedCall::WatchedCall(Ended ended, const void* caller) : slot_(kNone) {
  if (own.slot != kNone) return;
  for (int i = 0; i < kCalls && slot_ == kNone; ++i)
    if (!calls[i].taken.exchange(true, std::memory_order_acquire)) slot_ = i;
  if (slot_ == kNone) return;
  calls[slot_].ended.store(false, std::memory_order_relaxed);
  own = {slot_, ended, caller, {}, 0};
}

WatchedCall::~WatchedCall() {
  if (slot_ == kNone) return;
  own.slot = kNone;
  calls[slot_].taken.store(false, std::memory_order_release);
}

const std::atomic<bool>* WatchedCall::stop() const { return slot_ == kNone ? nullptr : &calls[slot_].flag; }

bool means_stop(const std::atomic<bool>* stop) {
  const auto* at = reinterpret_cast<const Call*>(stop);
  if (at < calls || at >= calls + kCalls) return true;
  Call& call = calls[at - calls];
  if (own.slot == at - calls && ++own.looks % kLooksAClock == 0)
    if (const auto now = Clock::now(); now >= own.next) {
      const bool first = own.next == Clock::time_point();
      own.next = now + kBetween;
      if (!first && own.ended(own.caller)) call.ended.store(true, std::memory_order_relaxed);
    }
  return call.ended.load(std::memory_order_relaxed);
}

}  // namespace statespace
