#include "program/history.h"

#include <algorithm>

namespace statespace {

// One after another: a chain of a hundred thousand forks would else be as many calls deep.
History::Block::~Block() {
  std::shared_ptr<const Block> next = std::move(before);
  while (next && next.use_count() == 1) next = std::move(next->before);
}

std::shared_ptr<const History::Block> History::frozen() const {
  if (recent_.empty()) return past_;
  auto block = std::make_shared<Block>();
  block->ids.swap(recent_);
  block->begin = size_ - int64_t(block->ids.size());
  block->before = std::move(past_);
  past_ = std::move(block);
  return past_;
}

std::vector<int32_t> History::since(int64_t from) const {
  from = std::clamp<int64_t>(from, 0, size_);
  std::vector<int32_t> out(size_ - from);
  const auto put = [&](const std::vector<int32_t>& ids, int64_t begin) {
    const int64_t skip = std::clamp<int64_t>(from - begin, 0, int64_t(ids.size()));
    std::copy(ids.begin() + skip, ids.end(), out.begin() + (begin + skip - from));
  };
  if (!recent_.empty()) put(recent_, size_ - int64_t(recent_.size()));
  for (const Block* b = past_.get(); b && b->begin + int64_t(b->ids.size()) > from; b = b->before.get())
    put(b->ids, b->begin);
  return out;
}

}  // namespace statespace
