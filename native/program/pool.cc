#include "program/pool.h"

#include <algorithm>
#include <cstring>

#include "core/afterwards.h"
#include "core/error.h"

namespace statespace {
namespace {

constexpr int64_t kReserve = int64_t(1) << 40;
constexpr int64_t kDevicePieces = 16;      // a device pool's first size
constexpr int64_t kLargePiece = 64 << 10;  // smaller ones would hold whole large pages for little
// Of pieces that were given back: memory that the system has to make anew costs 1.4 ms a megabyte on virtual machines.
constexpr int64_t kWarmBytes = 64 << 20;
constexpr int64_t kClearedAhead =
    4 << 20;  // what takes longer to clear than whoever takes it may wait, half a millisecond

}  // namespace

Pool::Pool(const Backend& backend, int64_t stride, Fresh fresh)
    : backend_(backend), stride_(stride), fresh_(fresh), pieces_(std::make_shared<Pieces>()) {
  pieces_->stride = stride_;
  pieces_->cleared = clears_ahead();
  if (stride_ == 0 || !backend.host_memory) return;
  ReservedMemory& reserved = pieces_->reserved;
  reserved = ReservedMemory(std::min(kReserve, stride_ * INT32_MAX), stride_);
  base_ = reserved.data();
  capacity_ = reserved.bytes() / stride_;
  if (stride_ >= kLargePiece) prefer_huge_pages(base_, reserved.bytes());
}

Pool::~Pool() {
  if (!backend_.host_memory && base_) backend_.free(base_);
}

bool Pool::clears_ahead() const { return backend_.host_memory && fresh_ == Fresh::zeros && stride_ > kClearedAhead; }

void Pool::grow() {
  if (backend_.host_memory) throw Error(Code::kOutOfMemory, "no more sessions fit into the address space");
  const int64_t wanted = std::max(kDevicePieces, 2 * capacity_);
  void* larger = backend_.alloc(wanted * stride_);
  if (!larger)
    throw Error(Code::kOutOfMemory, "no device memory for " + std::to_string(wanted * stride_) + " bytes of state");
  if (base_) backend_.copy(larger, base_, capacity_ * stride_), backend_.free(base_);
  base_ = larger;
  capacity_ = wanted;
}

int32_t Pool::take(Fresh fresh) {
  if (stride_ == 0) return 0;  // nothing to keep, so nothing to tell apart
  Pieces& p = *pieces_;
  const std::lock_guard lock(p.mutex);
  const bool dirty_is_welcome = fresh == Fresh::anything || !p.cleared;
  int32_t piece;
  // Pages that nobody has touched, or that the system has had back, are zero.
  bool zeros = backend_.host_memory;
  if (auto& list = !p.warm.empty() ? p.warm : dirty_is_welcome && !p.given.empty() ? p.given : p.free; !list.empty()) {
    zeros &= &list == &p.free ? p.free_is_zero.load() : &list == &p.warm && p.cleared;
    piece = list.back();
    if (backend_.host_memory) p.reserved.commit(piece * stride_, stride_);
    list.pop_back();
    p.references[piece] = 1;
  } else {
    if (int64_t(p.references.size()) == capacity_) grow();
    piece = int32_t(p.references.size());
    if (backend_.host_memory) p.reserved.commit(piece * stride_, stride_);
    p.references.push_back(1);
  }
  if (fresh == Fresh::zeros && !zeros) backend_.zero(at(piece), stride_);
  return piece;
}

void Pool::share(int32_t piece) {
  if (stride_ == 0) return;
  const std::lock_guard lock(pieces_->mutex);
  ++pieces_->references[piece];
}

void Pool::share(const std::vector<int32_t>& pieces) {
  const std::lock_guard lock(pieces_->mutex);
  for (int32_t piece : pieces)
    if (piece >= 0) ++pieces_->references[piece];
}

void Pool::give(int32_t piece) {
  if (stride_ == 0) return;
  Pieces& p = *pieces_;
  const std::lock_guard lock(p.mutex);
  if (--p.references[piece] > 0) return;
  if (!backend_.host_memory || (!p.cleared && p.room_for_warm())) return p.warm.push_back(piece);
  if (!p.tidying) p.tidying = afterwards(std::chrono::milliseconds(0), [pieces = pieces_] { pieces->tidy(); });
  if (p.tidying) return p.given.push_back(piece);
  p.discard(piece);
  p.free.push_back(piece);
}

bool Pool::Pieces::room_for_warm() const { return int64_t(warm.size() + 1) * stride <= kWarmBytes; }

void Pool::Pieces::discard(int32_t piece) {
  if (!reserved.discard(piece * stride, stride)) free_is_zero = false;
}

void Pool::Pieces::tidy() {
  std::unique_lock lock(mutex);
  while (!given.empty()) {
    const int32_t piece = given.back();
    given.pop_back();
    const bool keep = room_for_warm();
    ++moving;
    lock.unlock();
    if (!keep)
      discard(piece);
    else if (cleared)
      std::memset(static_cast<char*>(reserved.data()) + piece * stride, 0, size_t(stride));
    lock.lock();
    --moving;
    (keep ? warm : free).push_back(piece);
  }
  tidying = false;
}

bool Pool::shared(int32_t piece) const {
  if (stride_ == 0) return false;
  const std::lock_guard lock(pieces_->mutex);
  return pieces_->references[piece] > 1;
}

int64_t Pool::own(const std::vector<int32_t>& pieces) const {
  const std::lock_guard lock(pieces_->mutex);
  return std::count_if(pieces.begin(), pieces.end(), [&](int32_t p) { return p >= 0 && pieces_->references[p] == 1; });
}

void Pool::prepare(int64_t pieces, const std::atomic<bool>* stop) {
  if (stride_ == 0 || !backend_.host_memory) return;
  Pieces& p = *pieces_;
  for (int64_t i = 0; i < pieces && !stop->load(std::memory_order_relaxed); ++i) {
    int32_t piece;
    {
      const std::lock_guard lock(p.mutex);
      if (int64_t(p.warm.size()) >= pieces) return;
      if (!p.free.empty()) {
        piece = p.free.back();
        p.free.pop_back();
      } else {
        if (int64_t(p.references.size()) == capacity_) return;
        piece = int32_t(p.references.size());
        p.references.push_back(0);
      }
      p.reserved.commit(piece * stride_, stride_);
    }
    std::memset(at(piece), 0, size_t(stride_));
    const std::lock_guard lock(p.mutex);
    p.warm.push_back(piece);
  }
}

int64_t Pool::in_use() const {
  const Pieces& p = *pieces_;
  const std::lock_guard lock(pieces_->mutex);
  return int64_t(p.references.size() - p.free.size() - p.warm.size() - p.given.size()) - p.moving;
}

int64_t Pool::held() const {
  const Pieces& p = *pieces_;
  const std::lock_guard lock(pieces_->mutex);
  return (int64_t(p.warm.size() + p.given.size()) + p.moving) * stride_;
}

}  // namespace statespace
