#include "core/check_runtime.h"

#include <climits>
#include <string>

#include "core/error.h"

namespace statespace {
namespace {

// Throws ERR_ARGUMENT unless bounds is 0 = b[0] <= b[1] <= … = total.
void check_bounds(const std::string& what, const Tensor& bounds, int64_t total) {
  const int32_t* b = bounds.i32();
  const int64_t n = bounds[0];
  bool good = n >= 1 && b[0] == 0 && b[n - 1] == total;
  for (int64_t i = 1; i < n && good; ++i) good = b[i] >= b[i - 1];
  if (!good)
    throw Error(Code::kArgument,
                what + ": expected offsets that start at 0, never fall, and end at " + std::to_string(total));
}

void check_range(const std::string& what, const Tensor& t, int64_t low, int64_t high) {
  for (int64_t i = 0; i < t.size(); ++i)
    if (t.i32()[i] < low || t.i32()[i] >= high)
      throw Error(Code::kArgument, what + "[" + std::to_string(i) + "]: expected a value from " + std::to_string(low) +
                                       " to " + std::to_string(high - 1) + ", received " + std::to_string(t.i32()[i]));
}

void check_targets(const std::string& what, const Tensor& t, int64_t vocab, int64_t ignored) {
  for (int64_t i = 0; i < t.size(); ++i)
    if ((t.i32()[i] < 0 || t.i32()[i] >= vocab) && t.i32()[i] != ignored)
      throw Error(Code::kArgument, what + "[" + std::to_string(i) + "]: expected a class from 0 to " +
                                       std::to_string(vocab - 1) + " or ignoreIndex " + std::to_string(ignored) +
                                       ", received " + std::to_string(t.i32()[i]));
}

// Whether every alternative of a shape has the tokens first: constant coefficients may have none.
bool by_token(const std::string& shape) {
  for (size_t at = 0; at != std::string::npos; at = shape.find(" | ", at + 1))
    if (shape.compare(at ? at + 3 : 0, 6, "tokens") != 0) return false;
  return true;
}

}  // namespace

void check_runtime(const std::string& name, const OpFields& op) {
  int64_t tokens = -1, keys = -1, pool = INT64_MAX, vocab = INT64_MAX, pages = INT64_MAX, page_size = 1, sequences = 1;
  int64_t max_pages = 0, ignored = INT64_MIN;
  bool slots = false;
  for (const auto& [kind, field, fits, dtypes, tensor] : op.tensors) {
    const Tensor& t = *tensor;
    if (!t) continue;
    const std::string shape = fits, what = field;
    if (by_token(shape)) tokens = t[0];
    if (shape.starts_with("keys") && t.rank == 3) keys = t[0];
    if (shape.starts_with("pool")) pool = t[0];
    if (shape.starts_with("vocab")) vocab = t[0];
    if (shape == "outputs vocab") vocab = t[1];
    if (shape.find("page_size") != std::string::npos && t.rank == 4) pages = t[0], page_size = t[2];
    if (kind == FieldKind::runtime && what == "cuSeqlens") sequences = t[0] - 1;
    if (what == "pageTable") max_pages = t[1];
    if (what == "slots") slots = true;
  }
  for (const OpAttr& a : op.attrs)
    if (std::string(a.name) == "ignoreIndex") ignored = *std::get<int64_t*>(a.value);
  for (const auto& [kind, name_of, fits, dtypes, tensor] : op.tensors) {
    const Tensor& t = *tensor;
    const std::string field = name_of, what = name + ": " + field;
    if (!t) continue;
    if (kind == FieldKind::state && field == "state" && !slots && t[0] < sequences)
      throw Error(Code::kShape, what + ": expected a row for each of " + std::to_string(sequences) +
                                    " sequences, received " + std::to_string(t[0]));
    if (kind != FieldKind::runtime) continue;
    if (field == "cuSeqlens") check_bounds(what, t, tokens);
    if (field == "cuSeqlensK") check_bounds(what, t, keys);
    if (field == "slots") check_range(what, t, 0, pool);
    if (field == "ids") check_range(what, t, 0, vocab);
    if (field == "targets") check_targets(what, t, vocab, ignored);
    if (field == "rows") check_range(what, t, 0, tokens);
    if (field == "pageTable") check_range(what, t, -1, pages);
    if (field == "keyLengths") check_range(what, t, 0, max_pages * page_size + 1);
    if (field == "positions" && max_pages) check_range(what, t, 0, max_pages * page_size);
    if ((field == "slots" || field == "pageTable" || field == "keyLengths") && t[0] != sequences)
      throw Error(Code::kShape, what + ": expected one entry for each of " + std::to_string(sequences) +
                                    " sequences, received " + std::to_string(t[0]));
  }
}

}  // namespace statespace
