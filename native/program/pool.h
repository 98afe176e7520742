#pragma once
// Equal pieces of memory, numbered: the recurrent states of sessions (one piece each) and the pages of their KV caches.
// Kernels address a piece as base + number · stride, so the base never moves while a program runs.
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/backend.h"
#include "core/memory_map.h"

namespace statespace {

// What a piece holds when it is taken. A host's pages of keys are read only where a token has written them.
enum class Fresh : uint8_t { zeros, anything };

class Pool {
 public:
  Pool(const Backend& backend, int64_t stride, Fresh fresh);
  ~Pool();
  Pool(const Pool&) = delete;

  // A piece with one reference. Throws ERR_OUT_OF_MEMORY. On a device, the base may move.
  int32_t take() { return take(fresh_); }
  int32_t take(Fresh fresh);
  void share(int32_t piece);
  // The same of all pieces of a list that are none of -1.
  void share(const std::vector<int32_t>& pieces);
  // Costs the same whatever the piece holds: what is to be cleared or returned to the system is so by another thread.
  void give(int32_t piece);
  bool shared(int32_t piece) const;
  // How many of a list's pieces (-1: none) nobody else holds.
  int64_t own(const std::vector<int32_t>& pieces) const;

  void* base() const { return base_; }
  void* at(int32_t piece) const { return static_cast<char*>(base_) + piece * stride_; }
  int64_t stride() const { return stride_; }
  int64_t capacity() const { return capacity_; }
  int64_t in_use() const;
  // Bytes of pieces that nobody has and whose memory is held for the next.
  int64_t held() const;
  // Touches the memory of pieces that are taken next, so many together: who takes them does not wait for the system to
  // make it. Ends early when *stop becomes true; nothing on a device, whose memory is there.
  void prepare(int64_t pieces, const std::atomic<bool>* stop);

 private:
  void grow();
  bool clears_ahead() const;

  // Shared with the thread that tidies, which may be the last to use it.
  struct Pieces {
    ReservedMemory reserved;
    int64_t stride = 0;
    bool cleared = false;  // warm pieces are zeros
    std::mutex mutex;
    std::vector<int32_t> references;  // of every piece ever taken
    // Pieces that were given back: their memory still there, about to be tidied, and returned to the system.
    std::vector<int32_t> warm, given, free;
    int64_t moving = 0;  // pieces that are being tidied
    bool tidying = false;
    std::atomic<bool> free_is_zero{true};

    bool room_for_warm() const;
    void discard(int32_t piece);
    void tidy();
  };

  const Backend& backend_;
  const int64_t stride_;
  const Fresh fresh_;
  int64_t capacity_ = 0;
  void* base_ = nullptr;
  const std::shared_ptr<Pieces> pieces_;
};

}  // namespace statespace
