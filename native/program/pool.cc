#include "program/pool.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace statespace {
namespace {

constexpr int64_t kReserve = int64_t(1) << 40;
constexpr int64_t kDevicePieces = 16;      // a device pool's first size
constexpr int64_t kLargePiece = 64 << 10;  // smaller ones would hold whole large pages for little
// Of pieces that were given back: memory that the system has to make anew costs 1.4 ms a megabyte on virtual machines.
constexpr int64_t kWarmBytes = 64 << 20;

}  // namespace

Pool::Pool(const Backend& backend, int64_t stride, Fresh fresh) : backend_(backend), stride_(stride), fresh_(fresh) {
  if (stride_ == 0 || !backend.host_memory) return;
  reserved_ = ReservedMemory(std::min(kReserve, stride_ * INT32_MAX), stride_);
  base_ = reserved_.data();
  capacity_ = reserved_.bytes() / stride_;
  if (stride_ >= kLargePiece) prefer_huge_pages(base_, reserved_.bytes());
}

Pool::~Pool() {
  if (!backend_.host_memory && base_) backend_.free(base_);
}

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
  const std::lock_guard lock(mutex_);
  int32_t piece;
  // Pages that nobody has touched are zero: who takes them does not wait for the system to make them.
  bool untouched = false;
  if (auto& list = warm_.empty() ? free_ : warm_; !list.empty()) {
    piece = list.back();
    if (backend_.host_memory) reserved_.commit(piece * stride_, stride_);
    list.pop_back();
    references_[piece] = 1;
  } else {
    if (int64_t(references_.size()) == capacity_) grow();
    piece = int32_t(references_.size());
    if (backend_.host_memory) reserved_.commit(piece * stride_, stride_);
    references_.push_back(1);
    untouched = backend_.host_memory;
  }
  if (fresh == Fresh::zeros && !untouched) backend_.zero(at(piece), stride_);
  return piece;
}

void Pool::share(int32_t piece) {
  if (stride_ == 0) return;
  const std::lock_guard lock(mutex_);
  ++references_[piece];
}

void Pool::share(const std::vector<int32_t>& pieces) {
  const std::lock_guard lock(mutex_);
  for (int32_t piece : pieces)
    if (piece >= 0) ++references_[piece];
}

void Pool::give(int32_t piece) {
  if (stride_ == 0) return;
  const std::lock_guard lock(mutex_);
  if (--references_[piece] > 0) return;
  if (!backend_.host_memory || int64_t(warm_.size() + 1) * stride_ <= kWarmBytes) return warm_.push_back(piece);
  reserved_.discard(piece * stride_, stride_);
  free_.push_back(piece);
}

bool Pool::shared(int32_t piece) const {
  if (stride_ == 0) return false;
  const std::lock_guard lock(mutex_);
  return references_[piece] > 1;
}

int64_t Pool::own(const std::vector<int32_t>& pieces) const {
  const std::lock_guard lock(mutex_);
  return std::count_if(pieces.begin(), pieces.end(), [&](int32_t p) { return p >= 0 && references_[p] == 1; });
}

void Pool::prepare(int64_t pieces, const std::atomic<bool>* stop) {
  if (stride_ == 0 || !backend_.host_memory) return;
  for (int64_t i = 0; i < pieces && !stop->load(std::memory_order_relaxed); ++i) {
    int32_t piece;
    {
      const std::lock_guard lock(mutex_);
      if (int64_t(warm_.size()) >= pieces) return;
      if (!free_.empty()) {
        piece = free_.back();
        free_.pop_back();
      } else {
        if (int64_t(references_.size()) == capacity_) return;
        piece = int32_t(references_.size());
        references_.push_back(0);
      }
      reserved_.commit(piece * stride_, stride_);
    }
    std::memset(at(piece), 0, size_t(stride_));
    const std::lock_guard lock(mutex_);
    warm_.push_back(piece);
  }
}

int64_t Pool::in_use() const {
  const std::lock_guard lock(mutex_);
  return int64_t(references_.size() - free_.size() - warm_.size());
}

}  // namespace statespace
