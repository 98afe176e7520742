#include "core/catalog.h"

#include "core/op_fields.h"
#include "ops/ops.h"

namespace statespace {
namespace {

std::string quoted(const std::string& s) { return '"' + s + '"'; }

const char* kind_name(FieldKind kind) {
  constexpr const char* kNames[] = {"in", "optional", "state", "runtime", "out", "wanted"};
  return kNames[static_cast<int>(kind)];
}

const char* type_name(bool) { return "boolean"; }
const char* type_name(int64_t) { return "integer"; }
const char* type_name(float) { return "float"; }
const char* type_name(int32_t) { return "choice"; }

std::string default_of(float v) { return quoted(std::to_string(v)); }
template <class T>
std::string default_of(T v) {
  return quoted(std::to_string(int64_t(v)));
}

std::string describe(const OpFields& op) {
  std::string fields, attrs;
  for (const OpTensor& t : op.tensors)
    fields += (fields.empty() ? "" : ",") + std::string("{\"name\":") + quoted(t.name) +
              ",\"kind\":" + quoted(kind_name(t.kind)) + ",\"shape\":" + quoted(t.shape) +
              ",\"dtypes\":" + quoted(t.dtypes) + "}";
  for (const OpAttr& a : op.attrs)
    std::visit(
        [&](auto* value) {
          attrs += (attrs.empty() ? "" : ",") + std::string("{\"name\":") + quoted(a.name) +
                   ",\"type\":" + quoted(type_name(*value)) + ",\"choices\":" + quoted(a.choices) +
                   ",\"default\":" + default_of(*value) + "}";
        },
        a.value);
  return "\"fields\":[" + fields + "],\"attrs\":[" + attrs + "]";
}

template <class Op>
std::string describe() {
  Op op;
  std::string relations;
  if constexpr (requires { typename Op::GradientOf; }) relations = ",\"gradientOf\":" + quoted(Op::GradientOf::kName);
  // An op that gives what another gives of whole sequences, without its state or cache: training goes by it.
  if constexpr (requires { typename Op::WholeOf; }) relations += ",\"wholeOf\":" + quoted(Op::WholeOf::kName);
  if constexpr (requires { Op::kPassesOn; }) relations += ",\"passesOn\":" + quoted(Op::kPassesOn);
  if constexpr (requires { Op::kChosenBy; }) relations += ",\"chosenBy\":" + quoted(Op::kChosenBy);
  return "{\"name\":" + quoted(Op::kName) + relations + "," + describe(OpFields(op)) + "}";
}

}  // namespace

std::string catalog_json() {
  std::string json;
  AllOps::each([&]<class Op>() { json += (json.empty() ? "" : ",") + describe<Op>(); });
  return "[" + json + "]";
}

}  // namespace statespace
