#include "program/model.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace statespace {
namespace {

// Below this a chunk is not interrupted, so a decode step needs no copy of its session's state.
constexpr int64_t kUninterrupted = 16;

// Activations of one chunk should stay in the caches; a product wants at least a few hundred rows.
int64_t choose_chunk(const Program& p) {
  if (p.looks_ahead()) return INT32_MAX;
  if (const char* env = std::getenv("STATESPACE_CHUNK")) return std::max(1, std::atoi(env));
  // A long convolution reads all of the past for every chunk: fewer and longer ones.
  const bool past = p.max_tokens() < INT32_MAX;
  const int64_t budget = past ? 64 << 20 : 16 << 20, most = past ? 4096 : 1024;
  return std::clamp<int64_t>(budget / std::max<int64_t>(1, p.token_bytes()) / 64 * 64, 256, most);
}

}  // namespace

Model::Model(const Backend& backend, Graph graph)
    : program(backend, std::move(graph)),
      states_(backend, program.state_bytes(), Fresh::zeros),
      pages_(backend, program.page_bytes(), backend.host_memory ? Fresh::anything : Fresh::zeros),
      chunk_tokens_(choose_chunk(program)) {}

std::unique_ptr<Workspace> Model::take_workspace() {
  const std::lock_guard lock(workspace_mutex_);
  if (workspaces_.empty()) return std::make_unique<Workspace>(program.backend());
  auto w = std::move(workspaces_.back());
  workspaces_.pop_back();
  return w;
}

// A request in progress.
struct Model::Piece {
  const Request* request;
  int64_t done = 0;    // tokens of earlier chunks
  int64_t length = 0;  // tokens of this chunk
  int64_t start;       // the session's position before the forward
  float* out;          // its rows of the result
  std::vector<uint8_t> backup;
};

void Model::run_chunk(std::vector<Piece>& pieces, Workspace& w, bool whole, const Program::Cancelled& cancelled) {
  const auto device = lock_device(program.backend());  // its pools may move between chunks
  Batch batch;
  batch.whole = whole;
  std::vector<float> gathered;
  for (const Piece& p : pieces) {
    if (p.length == 0) continue;
    Session& s = *p.request->session;
    s.extend(s.position_ + p.length);
    const int64_t last = batch.tokens + p.length;
    for (int64_t i = 0; i < p.length; ++i) batch.positions.push_back(int32_t(s.position_ + i));
    if (p.request->ids) batch.ids.insert(batch.ids.end(), p.request->ids + p.done, p.request->ids + p.done + p.length);
    if (p.request->rows >= Rows::all)
      for (int64_t t = batch.tokens; t < last; ++t) batch.rows.push_back(int32_t(t));
    else if (p.request->rows == Rows::last && p.done + p.length == p.request->length)
      batch.rows.push_back(int32_t(last - 1));
    batch.tokens = last;
    batch.cu_seqlens.push_back(int32_t(last));
    batch.slots.push_back(s.slot_);
    batch.key_lengths.push_back(int32_t(s.position_ + p.length));
    batch.max_pages = std::max(batch.max_pages, int64_t(s.pages_.size()));
    ++batch.sequences;
  }
  batch.outputs = int64_t(batch.rows.size());
  if (batch.max_pages) {
    batch.page_table.assign(batch.sequences * batch.max_pages, -1);
    int64_t row = 0;
    for (const Piece& p : pieces) {
      if (p.length == 0) continue;
      const auto& pages = p.request->session->pages_;
      std::copy(pages.begin(), pages.end(), batch.page_table.begin() + batch.max_pages * row++);
    }
  }
  const int64_t features = program.input_features();
  if (features) {
    if (batch.sequences == 1) {
      for (const Piece& p : pieces)
        if (p.length) batch.input = p.request->input + p.done * features;
    } else {
      for (const Piece& p : pieces)
        if (p.length)
          gathered.insert(gathered.end(), p.request->input + p.done * features,
                          p.request->input + (p.done + p.length) * features);
      batch.input = gathered.data();
    }
  }
  batch.state_base = states_.base();
  batch.state_pool = states_.capacity();
  batch.page_base = pages_.base();
  batch.page_pool = pages_.capacity();

  program.run(batch, w, cancelled);
  w.rows.resize(program.output_rows(batch) * program.output_features());
  program.read_output(batch, w, w.rows.data());

  // Hand each request its rows.
  const float* from = w.rows.data();
  const int64_t width = program.output_features();
  for (Piece& p : pieces) {
    if (p.length == 0) continue;
    const bool last = p.done + p.length == p.request->length;
    int64_t n = program.output_dim() == kTokens ? p.length : program.output_dim() == kSequences ? 1 : 0;
    if (program.output_dim() == kOutputs)
      n = p.request->rows >= Rows::all ? p.length : p.request->rows == Rows::last && last;
    const bool wanted = program.output_dim() != kSequences || last;
    if (wanted && p.request->rows != Rows::none) p.out = std::copy(from, from + n * width, p.out);
    from += n * width;
  }
}

FloatBlock Model::forward(const std::vector<Request>& requests, const Control& control) {
  std::vector<Piece> pieces;
  int64_t result_rows = 0, total = 0;
  std::vector<int64_t> starts;
  std::vector<Session*> held;
  struct Release {
    std::vector<Session*>& sessions;
    ~Release() {
      for (Session* s : sessions) s->busy_ = false;
    }
  } release{held};

  for (const Request& r : requests) {
    Session& s = *r.session;
    if (s.busy_.exchange(true)) throw Error(Code::kState, "session: it is in use by another forward");
    held.push_back(&s);
    if (s.broken_) throw Error(Code::kState, "session: its state was lost in a failed forward");
    if (program.looks_ahead() && s.position_ > 0)
      throw Error(
          Code::kState,
          "session: the network looks at later tokens, so it takes a sequence in one call; use a new session or run()");
    if (s.position_ + r.length > program.max_tokens())
      throw Error(Code::kArgument, "session: expected at most " + std::to_string(program.max_tokens()) +
                                       " tokens, as the model's long convolutions are defined for; received " +
                                       std::to_string(r.length) + " after " + std::to_string(s.position_));
    if (r.rows == Rows::whole && s.position_ > 0)
      throw Error(Code::kState, "session: a whole sequence starts in a new session");
    for (int64_t i = 0; r.ids && i < r.length; ++i)
      if (r.ids[i] < 0 || r.ids[i] >= program.vocab())
        throw Error(Code::kArgument, "forward: token[" + std::to_string(i) + "]: expected an id from 0 to " +
                                         std::to_string(program.vocab() - 1) + ", received " +
                                         std::to_string(r.ids[i]));
    starts.push_back(result_rows);
    const int64_t whole = program.output_dim() == kSequences ? 1 : r.length;
    result_rows += r.rows == Rows::none || r.length == 0                     ? 0
                   : r.rows >= Rows::all || program.output_dim() != kOutputs ? whole
                                                                             : 1;
    total += r.length;
  }
  FloatBlock out(result_rows * program.output_features());
  for (size_t i = 0; i < requests.size(); ++i)
    pieces.push_back(
        {&requests[i], 0, 0, requests[i].session->position_, out.data() + starts[i] * program.output_features(), {}});

  const bool whole = program.has_whole_form() && std::all_of(requests.begin(), requests.end(),
                                                             [](const Request& r) { return r.rows == Rows::whole; });
  const bool interruptible = total > kUninterrupted;
  const int64_t state_bytes = program.state_bytes();
  if (interruptible && state_bytes) {
    const auto device = lock_device(program.backend());
    for (Piece& p : pieces) {
      p.backup.resize(state_bytes);
      program.backend().download(p.backup.data(), states_.at(p.request->session->slot_), state_bytes);
    }
  }
  auto workspace = take_workspace();
  int64_t done = 0;
  try {
    while (done < total) {
      int64_t room = whole ? INT64_MAX : chunk_tokens_;
      for (Piece& p : pieces) {
        p.length = std::min(room, p.request->length - p.done);
        room -= p.length;
      }
      run_chunk(pieces, *workspace, whole, interruptible ? control.cancelled : nullptr);
      for (Piece& p : pieces) {
        Session& s = *p.request->session;
        s.position_ += p.length;
        p.done += p.length;
        done += p.length;
        p.length = 0;
        // What a rolled-back session would need stays until the forward has succeeded.
        if (program.window()) s.forget(p.done == p.request->length ? 0 : p.start, s.first_visible());
      }
      if (control.progress) control.progress(done);
    }
  } catch (...) {
    const auto device = lock_device(program.backend());
    for (Piece& p : pieces) {
      Session& s = *p.request->session;
      s.truncate(p.start);
      s.position_ = p.start;
      if (!p.backup.empty())
        program.backend().upload(states_.at(s.slot_), p.backup.data(), state_bytes);
      else if (state_bytes && p.request->length)
        s.broken_ = true;
    }
    throw;
  }
  const std::lock_guard lock(workspace_mutex_);
  workspaces_.push_back(std::move(workspace));
  return out;
}

}  // namespace statespace
