#include "core/check.h"

#include <cctype>
#include <sstream>

#include "core/error.h"

namespace statespace {
namespace {

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string w; in >> w;) out.push_back(w);
  return out;
}

std::vector<std::string> alternatives(const std::string& spec) {
  std::vector<std::string> out;
  size_t start = 0;
  for (size_t bar; (bar = spec.find(" | ", start)) != std::string::npos; start = bar + 3)
    out.push_back(spec.substr(start, bar - start));
  out.push_back(spec.substr(start));
  return out;
}

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
  bool known_type = false;
  std::string known_types;
  for (auto type : words(dtypes)) {
    if (type.starts_with("host:")) type.erase(0, 5);
    known_type |= type == dtype_name(t.dtype);
    known_types += " " + type;
  }
  if (!known_type)
    throw Error(Code::kDType, std::string(op_) + ": " + name + ": expected dtype" + known_types + ", received " +
                                  dtype_name(t.dtype));

  std::string expected;
  for (const auto& alternative : alternatives(shape)) {
    const auto axes = words(alternative);
    bool fits = static_cast<int>(axes.size()) == t.rank;
    std::string wanted = "(";
    for (size_t i = 0; i < axes.size(); ++i) {
      int64_t size = -1;
      if (std::isdigit(static_cast<unsigned char>(axes[i][0])))
        size = std::stoll(axes[i]);
      else if (const int64_t* bound = symbols_.find(axes[i]))
        size = *bound;
      wanted +=
          (i ? ", " : "") + axes[i] + (size < 0 || std::to_string(size) == axes[i] ? "" : "=" + std::to_string(size));
      if (fits && size >= 0 && size != t.shape[i]) fits = false;
    }
    if (fits) {
      for (size_t i = 0; i < axes.size(); ++i) symbols_.set(axes[i], t.shape[i]);
      return alternative;
    }
    expected += (expected.empty() ? "" : " or ") + wanted + ")";
  }
  throw Error(Code::kShape, std::string(op_) + ": " + name + ": expected " + expected + ", received " + show(t));
}

}  // namespace statespace
