#include "program/forward.h"

#include <algorithm>

#include "core/error.h"
#include "program/forward_piece.h"

namespace statespace {
namespace {

// So few tokens are over before an abort could be heard: a decode step keeps no copies of its sessions' states, which
// would cost a sixth of it. More than the least where all of them pass by the weights within a twentieth of a second.
constexpr int64_t kLeastUninterrupted = 16, kMostUninterrupted = 64, kUninterruptedBytes = int64_t(1) << 35;
int64_t most_uninterrupted(int64_t weight_bytes) {
  return std::clamp(kUninterruptedBytes / std::max<int64_t>(1, weight_bytes), kLeastUninterrupted, kMostUninterrupted);
}

// Beside so many times their bytes of weights, copies of states are not felt in any step.
constexpr int64_t kSmallPart = 128;
// States so small that a copy is never felt; a run that runs out of memory then leaves the session as it was, too.
constexpr int64_t kSmallState = 64 << 10;
constexpr int64_t kCopiedPart = 512 << 10;  // of a state, by one thread
}  // namespace

void Forward::check(const Request& r) const {
  const Session& s = *r.session;
  if (s.broken_) throw Error(Code::kState, "session: its state was lost in a failed forward");
  if (program_.looks_ahead() && s.position_ > 0)
    throw Error(
        Code::kState,
        "session: the network looks at later tokens, so it takes a sequence in one call; use a new session or run()");
  if (s.position() + r.length > program_.max_tokens())
    throw Error(Code::kArgument, "session: expected at most " + std::to_string(program_.max_tokens()) +
                                     " tokens, as the model's long convolutions are defined for; received " +
                                     std::to_string(r.length) + " after " + std::to_string(s.position()));
  if (s.position() + r.length > INT32_MAX)
    throw Error(Code::kArgument, "session: expected at most " + std::to_string(INT32_MAX) + " tokens, received " +
                                     std::to_string(r.length) + " after " + std::to_string(s.position()));
  if (r.rows == Rows::whole && s.position() > 0)
    throw Error(Code::kState, "session: a whole sequence starts in a new session");
  if (hidden_ && (r.rows != Rows::hidden || width_ == 0))
    throw Error(Code::kArgument, width_ ? "forward: hidden: of all sequences or of none"
                                        : "forward: hidden: the network has no head that reads hidden states");
  if (r.sampler && (program_.output_dim() != kOutputs || program_.input_features() > 0))
    throw Error(Code::kArgument, "sample: the network has no head that gives logits of tokens");
  if (r.sampler && r.length == 0 && s.pending_ < 0 && !s.last_row_)
    throw Error(Code::kArgument, "generate: expected a prompt, or an earlier forward with logits 'last' or 'all'");
  for (int64_t i = 0; r.ids && i < r.length; ++i)
    if (r.ids[i] < 0 || r.ids[i] >= program_.vocab())
      throw Error(Code::kArgument, "forward: token[" + std::to_string(i) + "]: expected an id from 0 to " +
                                       std::to_string(program_.vocab() - 1) + ", received " + std::to_string(r.ids[i]));
}

Forward::Forward(std::shared_ptr<Model> model, std::vector<Request> requests, Output output)
    : model_(std::move(model)), program_(model_->program), requests_(std::move(requests)) {
  workspace_ = model_->enter();
  try {
    hidden_ = std::any_of(requests_.begin(), requests_.end(), [](const Request& r) { return r.rows == Rows::hidden; });
    width_ = hidden_ ? program_.hidden_features() : program_.output_features();
    int64_t rows = 0;
    pieces_.reserve(requests_.size());
    for (const Request& r : requests_) {
      Session& s = *r.session;
      if (s.busy_.exchange(true)) throw Error(Code::kState, "session: it is in use by another forward");
      Piece& p = pieces_.emplace_back();
      p.request = &r, p.session = &s, p.start = s.position_;
      check(r);
      p.ids = r.ids, p.input = r.input, p.total = r.length;
      if (s.pending_ >= 0) {
        p.joined.push_back(s.pending_);
        p.joined.insert(p.joined.end(), r.ids, r.ids + r.length);
        p.ids = p.joined.data(), p.skipped = 1, ++p.total;
      }
      total_ += p.total;
      if (r.rows == Rows::none || p.total == 0) continue;
      const bool single = program_.output_dim() == kSequences || r.rows == Rows::last;
      p.wanted = single ? 1 : r.length;
      rows += p.wanted;
    }
    if (output.data && output.values != rows * width_)
      throw Error(Code::kShape, "forward: out: expected " + std::to_string(rows) + " rows of " +
                                    std::to_string(width_) + " values, received " + std::to_string(output.values) +
                                    " values");
    if (!output.data && !output.apart) output.data = rows_.emplace_back(rows * width_).data();
    for (Piece& p : pieces_) {
      const int64_t values = p.wanted * width_;
      p.out = output.data ? output.data : rows_.emplace_back(values).data();
      if (output.data) output.data += values;
    }
    whole_ = program_.has_whole_form() &&
             std::all_of(requests_.begin(), requests_.end(), [](const Request& r) { return r.rows == Rows::whole; });
    const int64_t states = program_.state_bytes() * int64_t(pieces_.size());
    interruptible_ =
        total_ > most_uninterrupted(model_->weight_bytes()) || states * kSmallPart <= model_->weight_bytes();
    undoable_ = states > 0 && (interruptible_ || states <= kSmallState || total_ > workspace_->most_tokens);
    if (undoable_) {
      const auto device = lock_device(program_.backend());
      char* kept = static_cast<char*>(workspace_->kept.reserve(states));
      for (Piece& p : pieces_) p.kept = kept, kept += program_.state_bytes();
    }
  } catch (...) {
    over_ = true;
    for (Piece& p : pieces_) p.session->busy_ = false;
    model_->leave(std::move(workspace_), 0);
    throw;
  }
}

Forward::~Forward() {
  if (!over_) roll_back();
}

bool Forward::advance(const Program::Cancelled& cancelled, const std::atomic<bool>* stop,
                      const std::atomic<bool>* ended) {
  try {
    cancelled_ = &cancelled, stop_ = stop, ended_ = ended;
    if (done_ < total_) run_chunk();
    if (done_ < total_) return true;
    sample();
    commit();
  } catch (...) {
    roll_back();
    throw;
  }
  return false;
}

// Slots that this chunk writes for the first time: of its own, or entered into `undo`.
void Forward::own_states(Undo& undo) {
  const int64_t bytes = program_.state_bytes();
  if (bytes == 0) return;
  Pool& pool = model_->states_;
  std::vector<std::pair<int32_t, int32_t>> copies;
  for (Piece& p : pieces_) {
    if (p.length == 0 || p.touched) continue;
    Session& s = *p.session;
    if (pool.shared(s.slot_)) {
      const int32_t own = pool.take(Fresh::anything);
      copies.emplace_back(own, s.slot_);
      p.shared = std::exchange(s.slot_, own);
    } else if (undoable_) {
      undo.entries.push_back({s.slot_, p.kept});
    }
  }
  const bool host = program_.backend().host_memory;
  // A slot is new memory more often than not, which costs more than the copy: its parts are shared out as well.
  const int64_t part = host ? kCopiedPart : bytes, parts = (bytes + part - 1) / part;
  const auto copy = [&](int64_t i, int) {
    const auto [to, from] = copies[i / parts];
    const int64_t at = i % parts * part;
    program_.backend().copy(static_cast<char*>(pool.at(to)) + at, static_cast<char*>(pool.at(from)) + at,
                            std::min(part, bytes - at));
  };
  const int64_t count = int64_t(copies.size()) * parts;
  if (host)
    ThreadPool::global().parallel_for(count, copy);
  else
    for (int64_t i = 0; i < count; ++i) copy(i, 0);
}

void Forward::run_chunk() {
  const auto device = lock_device(program_.backend());  // its pools may move between chunks
  int64_t room = longest_chunk();
  for (Piece& p : pieces_) {
    p.length = std::min(room, p.total - p.done);
    room -= p.length;
  }
  undo_.entries.clear();
  undo_.saved.assign(program_.graph().values.size(), false);
  own_states(undo_);

  std::vector<float> gathered;
  const Batch batch = batch_of_chunk(gathered);
  for (Piece& p : pieces_) p.touched |= p.length > 0;
  program_.run(batch, *workspace_, interruptible_ ? *cancelled_ : nullptr, undo_, interruptible_ ? stop_ : ended_);
  float* rows = place_of_all();
  if (!rows && program_.backend().host_memory) {
    hand_out(program_.output(batch, *workspace_));
  } else {
    if (!rows) {
      workspace_->rows.resize(program_.output_rows(batch) * width_);
      rows = workspace_->rows.data();
    }
    program_.read_output(batch, *workspace_, rows);
    hand_out(rows);
  }

  for (Piece& p : pieces_) {
    Session& s = *p.session;
    s.position_ += p.length;
    p.done += p.length;
    done_ += p.length;
    p.length = 0;
    // Pages that this forward made and has done with; older ones would be needed again.
    if (program_.window()) s.forget(p.start, s.first_visible());
  }
  kept_.entries.insert(kept_.entries.end(), undo_.entries.begin(), undo_.entries.end());
  if (!undo_.entries.empty()) kept_.saved = undo_.saved;  // the same of every chunk: its ops are the same
  undo_.entries.clear();
}

// All samplers in one loop over the threads.
void Forward::sample() {
  chosen_.resize(pieces_.size());
  std::vector<int64_t> wanted;
  for (size_t i = 0; i < pieces_.size(); ++i)
    if (pieces_[i].request->sampler) wanted.push_back(int64_t(i));
  ThreadPool::global().parallel_for(int64_t(wanted.size()), [&](int64_t i, int) {
    Piece& p = pieces_[wanted[i]];
    const Request& r = *p.request;
    const FloatBlock& row = p.total > 0 ? *p.last : *p.session->last_row_;
    chosen_[wanted[i]] = r.sampler->choose(row.data(), row.count(), p.session->history_, r.ids, r.length, r.mask);
  });
}

void Forward::commit() {
  over_ = true;
  for (Piece& p : pieces_) {
    Session& s = *p.session;
    if (p.shared >= 0) model_->states_.give(p.shared);
    if (program_.window()) s.forget(0, s.first_visible());
    if (p.total > 0) {
      if (p.request->ids) s.history_.append(p.request->ids, p.request->length);
      s.pending_ = -1;
      s.last_row_ = std::move(p.last);
    }
    s.busy_ = false;
  }
  workspace_->most_tokens = std::max(workspace_->most_tokens, total_);
  leave();
}

void Forward::roll_back() {
  over_ = true;
  {
    const auto device = lock_device(program_.backend());
    Pool& states = model_->states_;
    program_.restore(undo_, states.base());  // of the chunk that was under way
    program_.restore(kept_, states.base());
    for (Piece& p : pieces_) {
      Session& s = *p.session;
      s.truncate(p.start);
      s.position_ = p.start;
      if (p.shared >= 0)
        states.give(std::exchange(s.slot_, p.shared));
      else if (p.touched && program_.state_bytes() && !undoable_)
        s.broken_ = true;
      s.busy_ = false;
    }
    program_.backend().finish();
  }
  leave();
}

// Logits of a long chunk are as large as a result, and are not kept beside it; steps of many sequences find theirs.
void Forward::leave() {
  constexpr int64_t kRows = 256;
  BackendBuffer& logits = workspace_->arenas[batch_dim(kOutputs)];
  const int64_t most = kRows * width_;
  if (logits.bytes() > 2 * most * int64_t(sizeof(float))) {
    const auto device = lock_device(program_.backend());
    logits = BackendBuffer(program_.backend());
  }
  if (int64_t(workspace_->rows.capacity()) > most) std::vector<float>().swap(workspace_->rows);
  model_->leave(std::move(workspace_), total_);
}

}  // namespace statespace
