#pragma once
// The tokens of a session, oldest first. A value: a copy shares what was there and appends on its own, so that a fork
// costs nothing and a thousand forks of one prompt hold its tokens once.
#include <cstdint>
#include <memory>
#include <vector>

namespace statespace {

class History {
 public:
  History() = default;
  History(const History& o) : past_(o.frozen()) { size_ = o.size_; }
  History& operator=(const History& o) {
    if (this == &o) return *this;
    past_ = o.frozen();
    recent_.clear();
    size_ = o.size_;
    return *this;
  }

  int64_t size() const { return size_; }
  void append(const int32_t* ids, int64_t count) {
    recent_.insert(recent_.end(), ids, ids + count);
    size_ += count;
  }
  // The tokens [from, size()), oldest first.
  std::vector<int32_t> since(int64_t from) const;

 private:
  struct Block {
    std::vector<int32_t> ids;
    int64_t begin = 0;
    mutable std::shared_ptr<const Block> before;
    ~Block();
  };
  // All tokens as blocks that nobody changes any more.
  std::shared_ptr<const Block> frozen() const;

  mutable std::shared_ptr<const Block> past_;
  mutable std::vector<int32_t> recent_;
  int64_t size_ = 0;
};

}  // namespace statespace
