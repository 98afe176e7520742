// A chunk of a forward's requests as one batch, and the rows of its output as theirs.
#include <algorithm>

#include "program/forward_piece.h"

namespace statespace {
namespace {

// Rows of every token are computed so many bytes at a time: an abort is heard between them, and more would only be
// held.
constexpr int64_t kMostRows = 64 << 20;

// Rows of logits into memory that may be new, whose pages cost more than the copy: of 50,280 of them one thread took
// 1 ms of a decode step of 4 ms.
struct RowCopy {
  const float* from;
  float* to;
  int64_t count;
};
void copy_rows(const std::vector<RowCopy>& copies) {
  constexpr int64_t kPart = 16 << 10;
  std::vector<RowCopy> parts;
  for (RowCopy c : copies)
    for (; c.count > 0; c.from += kPart, c.to += kPart, c.count -= kPart)
      parts.push_back({c.from, c.to, std::min(c.count, kPart)});
  ThreadPool::global().parallel_for(int64_t(parts.size()), [&](int64_t i, int) {
    std::copy(parts[i].from, parts[i].from + parts[i].count, parts[i].to);
  });
}

}  // namespace

// In tokens. A network that looks ahead has its sequence whole.
int64_t Forward::longest_chunk() const {
  if (whole_ || program_.looks_ahead()) return INT64_MAX;
  const bool every =
      std::any_of(pieces_.begin(), pieces_.end(), [](const Piece& p) { return p.computed() >= Rows::all; });
  const int64_t most = model_->chunk_tokens_;
  return every && width_ > 0 ? std::min(most, std::max<int64_t>(64, kMostRows / (4 * width_))) : most;
}

// Where a chunk's output is what one request asked for, that request's place for it.
float* Forward::place_of_all() {
  Piece* only = nullptr;
  for (Piece& p : pieces_) {
    if (p.length == 0) continue;
    if (only || p.computed() < Rows::all || program_.output_dim() != kOutputs) return nullptr;
    only = &p;
  }
  return only ? only->out + only->rows * width_ : nullptr;
}

// The next tokens of each request, `length` of them. Rows of several requests that are fed in place of ids lie in
// `gathered`.
Batch Forward::batch_of_chunk(std::vector<float>& gathered) {
  Batch batch;
  batch.whole = whole_, batch.hidden = hidden_;
  for (Piece& p : pieces_) {
    if (p.length == 0) continue;
    Session& s = *p.session;
    s.extend(s.position_ + p.length);
    const int64_t last = batch.tokens + p.length;
    for (int64_t i = 0; i < p.length; ++i) batch.positions.push_back(int32_t(s.position_ + i));
    if (p.ids) batch.ids.insert(batch.ids.end(), p.ids + p.done, p.ids + p.done + p.length);
    const Rows rows = p.computed();
    if (rows >= Rows::all)
      for (int64_t t = batch.tokens + (p.done == 0 ? p.skipped : 0); t < last; ++t) batch.rows.push_back(int32_t(t));
    else if (rows == Rows::last && p.done + p.length == p.total)
      batch.rows.push_back(int32_t(last - 1));
    batch.tokens = last;
    batch.cu_seqlens.push_back(int32_t(last));
    batch.slots.push_back(s.slot_);
    batch.key_lengths.push_back(int32_t(s.position_ + p.length));
    batch.max_pages = std::max(batch.max_pages, int64_t(s.pages_.size()));
    ++batch.sequences;
  }
  batch.outputs = int64_t(batch.rows.size());
  const int64_t features = program_.input_features();
  if (batch.max_pages) batch.page_table.assign(batch.sequences * batch.max_pages, -1);
  int64_t row = 0;
  for (const Piece& p : pieces_) {
    if (p.length == 0) continue;
    if (batch.max_pages) {
      const auto& pages = p.session->pages_;
      std::copy(pages.begin(), pages.end(), batch.page_table.begin() + batch.max_pages * row++);
    }
    if (features == 0) continue;
    const float* from = p.input + p.done * features;
    if (batch.sequences == 1)
      batch.input = from;
    else
      gathered.insert(gathered.end(), from, from + p.length * features);
  }
  if (!gathered.empty()) batch.input = gathered.data();
  batch.state_base = model_->states_.base();
  batch.state_pool = model_->states_.capacity();
  batch.page_base = model_->pages_.base();
  batch.page_pool = model_->pages_.capacity();
  return batch;
}

// Gives each request its rows of the chunk's output.
void Forward::hand_out(const float* from) {
  const int64_t width = width_;
  std::vector<RowCopy> copies;
  for (Piece& p : pieces_) {
    if (p.length == 0) continue;
    const Rows rows = p.computed();
    const bool last = p.done + p.length == p.total;
    const int64_t skipped = p.done == 0 ? p.skipped : 0;
    int64_t there = 0, wanted = 0;  // rows of the output, and of these the last ones that are asked for
    if (program_.output_dim() == kSequences)
      there = 1, wanted = last;
    else if (program_.output_dim() == kTokens)
      there = p.length, wanted = rows >= Rows::all ? p.length - skipped : last;
    else
      there = wanted = rows >= Rows::all ? p.length - skipped : rows == Rows::last && last;
    from += there * width;
    if (rows == Rows::none || wanted == 0) continue;
    float* to = p.out + p.rows * width;
    if (p.request->rows != Rows::none && to != from - wanted * width)
      copies.push_back({from - wanted * width, to, wanted * width});
    p.rows += wanted;
    if (!last || hidden_ || program_.output_dim() != kOutputs) continue;
    p.last = std::make_shared<FloatBlock>(width);
    copies.push_back({from - width, p.last->data(), width});
  }
  copy_rows(copies);
}

}  // namespace statespace
