// Sessions of one model used from several threads at once, as several worker_threads and jobs do; run under TSan too.
#include <thread>

#include "core/error.h"
#include "program/state_export.h"
#include "program/state_import.h"
#include "small_model.h"
#include "support.h"

namespace statespace::test {
namespace {

std::vector<int32_t> ids(int64_t n, int32_t seed) {
  std::vector<int32_t> v;
  for (int64_t i = 0; i < n; ++i) v.push_back(int32_t((i * 7 + seed * 5) % kSmallVocab));
  return v;
}

const Backend& cpu() {
  int count;
  return *cpu_backend(available_cpu_backends(&count)[0]);
}

// Starts all threads, then waits for them.
template <class Fn>
void in_parallel(int count, Fn fn) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back([&fn, i] { fn(i); });
  for (auto& t : threads) t.join();
}

}  // namespace

TEST_CASE("sessions in parallel give what each gives alone") {
  const auto model = small_model(cpu());
  constexpr int kThreads = 4, kRounds = 6;
  std::vector<std::vector<float>> alone, together(kThreads);
  const auto use = [&](int i) {
    auto session = std::make_shared<Session>(model);
    feed(*model, session, ids(90 + i, i), Rows::none);
    std::vector<float> logits;
    for (int round = 0; round < kRounds; ++round) {
      auto other = session->fork();
      feed(*model, other, ids(70, round), Rows::none);
      const auto saved = session->export_state();
      auto restored = std::make_shared<Session>(model);
      restored->import_state(saved.data(), int64_t(saved.size()), session->position());
      logits = feed(*model, restored, ids(3, round));
      session = restored;
    }
    return logits;
  };
  for (int i = 0; i < kThreads; ++i) alone.push_back(use(i));
  in_parallel(kThreads, [&](int i) { together[i] = use(i); });
  for (int i = 0; i < kThreads; ++i) CHECK(together[i] == alone[i]);
}

TEST_CASE("two forwards on one session: one runs, the other is refused or runs after it") {
  const auto model = small_model(cpu());
  const auto session = std::make_shared<Session>(model);
  std::atomic<int> ran{0}, refused{0};
  in_parallel(4, [&](int i) {
    for (int round = 0; round < 10; ++round) {
      try {
        feed(*model, session, ids(20, i));
        ++ran;
      } catch (const Error& e) {
        if (e.code == Code::kState) ++refused;
      }
    }
  });
  CHECK(ran + refused == 40);
  CHECK(ran >= 1);
  CHECK(session->position() == 20 * ran);
}

TEST_CASE("a cancelled forward leaves its session as it was, while others go on") {
  const auto model = small_model(cpu());
  in_parallel(3, [&](int i) {
    const auto session = std::make_shared<Session>(model);
    feed(*model, session, ids(30, i), Rows::none);
    const auto before = session->export_state();
    const auto prompt = ids(400, i);
    Request r;
    r.session = session, r.ids = prompt.data(), r.length = int64_t(prompt.size());
    for (int stop = 0; stop < 6; ++stop) {
      int asked = 0;
      bool aborted = false;
      try {
        model->forward({r}, [&] { return asked++ == stop; });
      } catch (const Error& e) {
        aborted = e.code == Code::kAborted;
      }
      CHECK(aborted);
      CHECK(session->export_state() == before);
    }
  });
}

TEST_CASE("forgotten sessions give their memory to the next ones") {
  const auto model = small_model(cpu());
  for (int i = 0; i < 10000; ++i) {
    const auto session = std::make_shared<Session>(model);
    if (i % 100 == 0) feed(*model, session, ids(100, i), Rows::none);
  }
  const auto last = std::make_shared<Session>(model);
  CHECK(last->bytes() == model->program.state_bytes());
}

TEST_CASE("large pieces of a pool are zeros again when they are taken, and held for the next up to 64 MB") {
  constexpr int64_t kPiece = (6 << 20) + 192;  // borders lie within pages
  constexpr int kPieces = 24;
  Pool pool(cpu(), kPiece, Fresh::zeros);
  for (int round = 0; round < 3; ++round) {
    std::vector<int32_t> taken;
    for (int i = 0; i < kPieces; ++i) {
      taken.push_back(pool.take());
      const char* at = static_cast<const char*>(pool.at(taken.back()));
      CHECK(std::all_of(at, at + kPiece, [](char c) { return c == 0; }));
      std::memset(pool.at(taken.back()), 1 + i, kPiece);
    }
    CHECK(pool.in_use() == kPieces);
    for (int i = 0; i < kPieces; ++i) {
      const char* at = static_cast<const char*>(pool.at(taken[i]));
      CHECK(
          std::all_of(at, at + kPiece, [&](char c) { return c == 1 + i; }));  // what its neighbours gave back is theirs
      pool.give(taken[i]);
    }
    CHECK(pool.in_use() == 0);
    if (round == 0) continue;  // taken again at once, whatever has been tidied
    for (int i = 0; i < 6000 && pool.held() > 64 << 20; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    CHECK(pool.held() <= 64 << 20);
    CHECK(pool.held() > 0);
  }
}

TEST_CASE("a large batch's workspace is given back when nothing has needed it for some seconds") {
  constexpr int32_t channels = 4096, d_conv = 4;
  GraphWriter g;
  const auto table = g.weight({kSmallVocab, channels}), kernel = g.weight({channels, d_conv});
  const auto x = g.activation({int32_t(kTokens), channels}), h = g.activation({int32_t(kTokens), channels});
  g.node<Embedding>({{"weight", table}, {"y", x}});
  g.node<CausalConv1d>({{"x", x}, {"weight", kernel}, {"state", g.state({channels, d_conv - 1})}, {"y", h}});
  const auto model = std::make_shared<Model>(cpu(), g.decode(h));
  for (const int32_t weight : {table, kernel}) model->set_random(weight, 1, 7);

  const auto fed = ids(1, 2);
  const auto step = [&](int64_t sessions) {
    std::vector<Request> requests(static_cast<size_t>(sessions));
    for (Request& r : requests) {
      r.session = std::make_shared<Session>(model);
      r.ids = fed.data(), r.length = 1, r.rows = Rows::none;
    }
    model->forward(requests);
  };
  for (int i = 0; i < 10 && model->workspace_bytes() <= 64 << 20;
       ++i)                                           // again where this thread was halted for seconds
    step((80 << 20) / model->program.state_bytes());  // whose copies, for an abort, are 80 MB
  CHECK(model->workspace_bytes() > 64 << 20);
  for (int i = 0; i < 3000 && model->workspace_bytes() > 64 << 20; ++i) {
    step(1);  // small ones go on
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  CHECK(model->workspace_bytes() <= 64 << 20);
}

TEST_CASE("a state that comes in pieces of any length is the one that comes whole") {
  const auto model = small_model(cpu());
  const auto session = std::make_shared<Session>(model);
  feed(*model, session, ids(200, 1), Rows::none);
  const auto whole = session->export_state();
  const int64_t size = int64_t(whole.size());
  for (int64_t length : {int64_t(1), int64_t(13), int64_t(1000), size}) {
    StateImport arriving(model, size, 200);
    const auto restored = std::make_shared<Session>(model);
    const auto before = restored->export_state();
    for (int64_t at = 0; at < size; at += length) {
      CHECK_THROWS_AS(arriving.give_to(*restored), Error);
      arriving.take(whole.data() + at, std::min(length, size - at));
    }
    CHECK_THROWS_AS(arriving.take(whole.data(), 1), Error);
    CHECK(restored->export_state() == before);
    arriving.give_to(*restored);
    CHECK(restored->export_state() == whole);
    StateExport leaving(*restored);
    std::vector<uint8_t> again(whole.size());
    for (int64_t at = 0; at < size; at += length) leaving.read(again.data() + at, std::min(length, size - at));
    CHECK(again == whole);
    CHECK(feed(*model, restored, ids(3, 2)) == feed(*model, session->fork(), ids(3, 2)));
  }
}

TEST_CASE("pages that were made ready are taken as any") {
  const auto model = small_model(cpu());
  std::atomic<bool> stop{false};
  model->prepare_pages(3, &stop);
  model->prepare_pages(5, &stop);
  const auto session = std::make_shared<Session>(model), other = std::make_shared<Session>(small_model(cpu()));
  CHECK(feed(*model, session, ids(400, 1)) == feed(*other->model, other, ids(400, 1)));
}

TEST_CASE("a snapshot of another size or position is refused and changes nothing") {
  const auto model = small_model(cpu());
  const auto session = std::make_shared<Session>(model);
  feed(*model, session, ids(75, 1), Rows::none);
  const auto good = session->export_state();
  const auto refused = [&](int64_t size, int64_t position) {
    std::vector<uint8_t> bytes(size_t(std::max<int64_t>(size, 1)));
    try {
      session->import_state(bytes.data(), size, position);
    } catch (const Error& e) {
      return e.code == Code::kState;
    }
    return false;
  };
  const int64_t size = int64_t(good.size());
  for (int64_t position : {-1, 0, 74, 76, INT32_MAX}) CHECK(refused(size, position));
  for (int64_t other : {int64_t(0), size - 1, size + 1}) CHECK(refused(other, 75));
  CHECK(refused(size, int64_t(1) << 60));
  CHECK(session->export_state() == good);
}

}  // namespace statespace::test
