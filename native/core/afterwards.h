#pragma once
// Work that nobody waits for: giving memory back to the system takes as long as a forward, and whoever drops a session
// may be the event loop.
#include <chrono>
#include <functional>

namespace statespace {

// Calls `work` on a thread of its own, not before the delay is over; one thread does all of it in order of time and is
// gone when there is none. False, and nothing will be called, where the system grants no thread. `work` may not throw.
bool afterwards(std::chrono::milliseconds delay, std::function<void()> work);

}  // namespace statespace
