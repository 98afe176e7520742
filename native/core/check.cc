#include "core/check.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace statespace {
namespace {

// Views, and messages only where one is needed: with streams and copies a call of a small op took half its time here.
using Views = std::vector<std::string_view>;

// The parts of a text between separators, empty ones left out.
Views parts(std::string_view text, std::string_view separator) {
  Views out;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) out.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + separator.size(), text.size()));
  }
  return out;
}
Views words(std::string_view text) { return parts(text, " "); }

std::string show(const Tensor& t) {
  std::string s = "(";
  for (int i = 0; i < t.rank; ++i) s += (i ? ", " : "") + std::to_string(t.shape[i]);
  return s + ")";
}

}  // namespace

int64_t* Symbols::find(const std::string& name) {
  for (auto& [known, size] : sizes_)
    if (known == name) return &size;
  return nullptr;
}

void Symbols::set(const std::string& name, int64_t size) {
  if (!find(name)) sizes_.emplace_back(name, size);
}

std::string Checker::tensor(FieldKind kind, const char* name, const Tensor& t, const char* shape, const char* dtypes) {
  if (!t) {
    if (kind == FieldKind::in || kind == FieldKind::out)
      throw Error(Code::kArgument, std::string(op_) + ": " + name + " is missing; expected (" + shape + ")");
    return "";
  }
  const Views types = words(dtypes);
  const auto plain = [](std::string_view type) { return type.substr(type.starts_with("host:") ? 5 : 0); };
  const char* given = dtype_name(t.dtype);
  if (std::none_of(types.begin(), types.end(), [&](std::string_view type) { return plain(type) == given; })) {
    std::string known;
    for (const auto type : types) known.append(" ").append(plain(type));
    throw Error(Code::kDType, std::string(op_) + ": " + name + ": expected dtype" + known + ", received " + given);
  }

  // What an axis must measure, -1 where that is not known.
  const auto size_of = [&](std::string_view axis) {
    int64_t size = -1;
    if (std::isdigit(static_cast<unsigned char>(axis[0])))
      std::from_chars(axis.data(), axis.data() + axis.size(), size);
    else if (const int64_t* bound = symbols_.find(std::string(axis)))
      size = *bound;
    return size;
  };
  Views alternatives = parts(shape, " | ");
  if (alternatives.empty()) alternatives.emplace_back();  // a number
  for (const auto alternative : alternatives) {
    const Views axes = words(alternative);
    bool fits = int(axes.size()) == t.rank;
    for (size_t i = 0; fits && i < axes.size(); ++i) {
      const int64_t size = size_of(axes[i]);
      fits = size < 0 || size == t.shape[i];
    }
    if (!fits) continue;
    for (size_t i = 0; i < axes.size(); ++i) symbols_.set(std::string(axes[i]), t.shape[i]);
    return std::string(alternative);
  }
  std::string expected;
  for (const auto alternative : alternatives) {
    expected += expected.empty() ? "(" : " or (";
    bool first = true;
    for (const auto axis : words(alternative)) {
      const int64_t size = size_of(axis);
      expected.append(std::exchange(first, false) ? "" : ", ").append(axis);
      if (size >= 0 && std::to_string(size) != axis) expected += "=" + std::to_string(size);
    }
    expected += ")";
  }
  throw Error(Code::kShape, std::string(op_) + ": " + name + ": expected " + expected + ", received " + show(t));
}

}  // namespace statespace
