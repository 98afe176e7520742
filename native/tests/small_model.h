#pragma once
// A network with all that a session remembers: a convolution's tail and a KV cache; logits of selected rows.
#include <memory>

#include "graph_writer.h"
#include "ops/ops.h"
#include "program/model.h"

namespace statespace::test {

constexpr int32_t kSmallVocab = 17;

inline Graph small_graph() {
  constexpr int32_t nheads = 2, headdim = 4, channels = nheads * headdim, d_conv = 3;
  constexpr int32_t T = int32_t(kTokens), rows = int32_t(kOutputs);
  GraphWriter g;
  const auto table = g.weight({kSmallVocab, channels}), kernel = g.weight({channels, d_conv});
  const auto head = g.weight({kSmallVocab, channels});
  const auto x = g.activation({T, channels}), h = g.activation({T, channels});
  const auto tail = g.state({channels, d_conv - 1});
  g.node<Embedding>({{"weight", table}, {"y", x}});
  g.node<CausalConv1d>({{"x", x}, {"weight", kernel}, {"state", tail}, {"y", h}});

  const auto q = g.view(h, {T, nheads, headdim}), attended = g.activation({T, nheads, headdim});
  const auto k = g.cache(nheads, headdim), v = g.cache(nheads, headdim);
  g.node<CacheAppend>({{"k", q}, {"v", q}, {"kPages", k}, {"vPages", v}});
  g.node<Attention>({{"q", q}, {"k", k}, {"v", v}, {"y", attended}}, {{"scale", 0.5}});

  const auto last = g.activation({rows, channels}), logits = g.activation({rows, kSmallVocab});
  g.node<SelectRows>({{"x", g.view(attended, {T, channels})}, {"y", last}});
  g.node<Linear>({{"x", last}, {"weight", head}, {"y", logits}});
  return g.decode(logits);
}

// The network on a backend, with random weights.
inline std::shared_ptr<Model> small_model(const Backend& backend) {
  auto model = std::make_shared<Model>(backend, small_graph());
  for (size_t id = 0; id < model->program.graph().values.size(); ++id)
    if (model->program.graph().values[id].kind == ValueKind::weight) model->set_random(int32_t(id), 1, 7);
  return model;
}

inline std::vector<float> feed(Model& model, const std::shared_ptr<Session>& session, const std::vector<int32_t>& ids,
                               Rows rows = Rows::last) {
  Request r;
  r.session = session;
  r.ids = ids.data();
  r.length = int64_t(ids.size());
  r.rows = rows;
  const FloatBlock out = model.forward({r});
  return {out.data(), out.data() + out.count()};
}

}  // namespace statespace::test
