#pragma once
// Writes the bytes of a graph (program/graph.h) for C++ tests, as lib/graph/encode.ts does for models.
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/fields.h"
#include "program/graph.h"

namespace statespace::test {

class GraphWriter {
 public:
  using Named = std::vector<std::pair<std::string_view, double>>;

  int32_t weight(std::initializer_list<int32_t> dims) { return value(ValueKind::weight, dims); }
  int32_t activation(std::initializer_list<int32_t> dims) { return value(ValueKind::activation, dims); }
  // Columns of an activation under other dims, from the first on.
  int32_t view(int32_t parent, std::initializer_list<int32_t> dims) {
    const int32_t id = value(ValueKind::view, dims);
    put(values_, parent), put(values_, int32_t(0));
    return id;
  }
  int32_t cache(int32_t nheads, int32_t headdim) { return value(ValueKind::cache, {nheads, headdim}); }
  int32_t state(std::initializer_list<int32_t> dims) {
    const int32_t id = value(ValueKind::state, dims);
    put(values_, int32_t(0));  // filled with zeros
    return id;
  }

  // An op over the values and attributes named as in its fields(); what is not named is absent, or as in the struct.
  template <class Op>
  void node(const Named& inputs, const Named& attrs = {}) {
    Op op;
    const auto find = [](const Named& list, std::string_view name, double missing) {
      for (const auto& [key, v] : list)
        if (key == name) return v;
      return missing;
    };
    put(nodes_, uint8_t(std::strlen(Op::kName)));
    nodes_ += Op::kName;
    put(nodes_, uint8_t(0));  // in every run
    each_tensor(op, [&](FieldKind, const char* name, Tensor&, const char*, const char*) {
      put(nodes_, int32_t(find(inputs, name, -1)));
    });
    each_attr(op, [&](const char* name, auto& v, const char*) { put(nodes_, double(find(attrs, name, double(v)))); });
    ++node_count_;
  }

  Graph decode(int32_t output) const {
    const std::string bytes = encode(output);
    return decode_graph(reinterpret_cast<const uint8_t*>(bytes.data()), int64_t(bytes.size()));
  }
  std::string encode(int32_t output) const {
    std::string bytes = "SSPG";
    for (int32_t v : {int32_t(3), value_count_, node_count_, output}) put(bytes, v);
    return bytes + values_ + nodes_;
  }

 private:
  int32_t value(ValueKind kind, std::initializer_list<int32_t> dims) {
    for (int byte : {int(kind), int(DType::f32), int(dims.size()), 0}) put(values_, uint8_t(byte));
    for (int32_t d : dims) put(values_, d);
    return value_count_++;
  }
  template <class T>
  static void put(std::string& to, T v) {
    to.append(reinterpret_cast<const char*>(&v), sizeof(T));
  }
  std::string values_, nodes_;
  int32_t value_count_ = 0, node_count_ = 0;
};

}  // namespace statespace::test
