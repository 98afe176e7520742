#include "backend/cuda_loader.h"

#include <filesystem>
#include <fstream>

#include "core/error.h"
#include "support.h"

using namespace statespace;

namespace {

// An environment variable for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) {
    if (const char* old = std::getenv(name)) old_ = old, had_ = true;
    setenv(name, value, 1);
  }
  ~Variable() { had_ ? setenv(name_, old_.c_str(), 1) : unsetenv(name_); }

 private:
  const char* name_;
  std::string old_;
  bool had_ = false;
};

std::string reason_for(const std::string& path) {
  std::string reason;
  CHECK(open_backend_library(path, &reason) == nullptr);
  return reason;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

const std::string kFakes = STATESPACE_FAKES;

}  // namespace

TEST_CASE("cuda loader: a library that cannot be used becomes a reason that names it") {
  const struct {
    const char *fake, *reason;
  } cases[] = {
      {"no_entry", "exports no statespace_backend"}, {"wrong_abi", "was built for backend ABI"},
      {"other_ops", "another set of ops"},           {"no_driver", "driver version is insufficient"},
      {"no_reason", "no backend and no reason"},     {"throws", "failed to start"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.fake);
    const std::string path = kFakes + "/fake_" + c.fake + ".so", reason = reason_for(path);
    CAPTURE(reason);
    CHECK(contains(reason, path));
    CHECK(contains(reason, c.reason));
    CHECK(reason_for(path) == reason);
  }
}

TEST_CASE("cuda loader: no file, and a file that is no library") {
  CHECK(contains(reason_for("/nowhere/libstatespace_cuda.so"), "cannot open /nowhere/libstatespace_cuda.so"));
  const auto text = std::filesystem::temp_directory_path() / "statespace_not_a_library.so";
  std::ofstream(text) << "not a library\n";
  CHECK(contains(reason_for(text.string()), "cannot open"));
  std::filesystem::remove(text);
}

TEST_CASE("cuda loader: the environment variable wins, and the forced backend reports its reason") {
  const std::string fake = kFakes + "/fake_no_driver.so";
  const Variable library("STATESPACE_CUDA_LIBRARY", fake.c_str());
  std::string reason;
  CHECK(cuda_backend(&reason) == nullptr);
  CHECK(contains(reason, fake));
  const Variable backend("STATESPACE_BACKEND", "cuda");
  try {
    default_backend();
    FAIL("no error");
  } catch (const Error& e) {
    CHECK(e.code == Code::kDevice);
    CHECK(contains(e.what(), "driver version is insufficient"));
  }
}

TEST_CASE("cuda loader: a path given by the caller is looked at where the environment names none") {
  const Variable library("STATESPACE_CUDA_LIBRARY", "");
  set_cuda_library("/nowhere/given.so");
  std::string reason;
  CHECK(cuda_backend(&reason) == nullptr);
  CHECK(contains(reason, "/nowhere/given.so"));
  set_cuda_library("");
}
