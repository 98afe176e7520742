#!/usr/bin/env bash
# onnx's own reference of GRU, LSTM and RNN leaves clip, activations, input_forget and sequence_lens out, and computes something else.
#
# Versions: onnx 1.23.1, onnxruntime 1.30.0, numpy.
# Behaviour: onnx.reference takes these attributes and the input sequence_lens without a word, and runs the operator with its default gates over
#   all steps of all sequences. RNN alone knows activations.
# Seen, largest difference of Y between the reference and the formulas of the specification: clip 0.3: GRU 0.74, LSTM 0.71, RNN 0.99; HardSigmoid
#   for the gates: GRU 0.11, LSTM 0.06; input_forget of LSTM 0.21; sequence_lens [5, 2, 3]: 1.0, 0.88, 1.0. onnxruntime agrees with the formulas in all of
#   them (under 1e-6), if clip of an LSTM is that of the gates (h of the cell counts as an activation, too, and is not clipped); without any of these the two agree.
# Why it matters: the reference is what exporters and other runtimes are tested against. A right implementation fails such a
#   comparison, and one that forgets these attributes too passes it; batches of unequal sequences are the rule with recurrent layers.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages onnx==1.23.1 onnxruntime==1.30.0 numpy

"$python" - <<'PY'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

steps, batch, inputs, hidden = 5, 3, 4, 6
random = np.random.default_rng(0)
x = random.standard_normal((steps, batch, inputs)).astype(np.float32)
weights = {op: [random.standard_normal(shape).astype(np.float32) * 0.7 for shape in ((1, g * hidden, inputs), (1, g * hidden, hidden), (1, 2 * g * hidden))]
           for op, g in (("GRU", 3), ("LSTM", 4), ("RNN", 1))}

def by_formula(op, clip=None, hard=False, input_forget=False, lengths=None):
    w, r, b = (m[0] for m in weights[op])
    wb, rb = np.split(b, 2)
    cut = (lambda v: v) if clip is None else (lambda v: np.clip(v, -clip, clip))
    gate = (lambda v: np.clip(0.2 * cut(v) + 0.5, 0, 1)) if hard else (lambda v: 1 / (1 + np.exp(-cut(v))))
    g = lambda v: np.tanh(cut(v))
    h = c = np.zeros((batch, hidden))
    y = []
    for t in range(steps):
        part = lambda i: slice(i * hidden, (i + 1) * hidden)
        into = lambda i, state: x[t] @ w[part(i)].T + state @ r[part(i)].T + wb[part(i)] + rb[part(i)]
        if op == "RNN":
            new_h, new_c = g(into(0, h)), c
        elif op == "GRU":
            z, reset = gate(into(0, h)), gate(into(1, h))
            new_h, new_c = (1 - z) * g(into(2, reset * h)) + z * h, c
        else:
            i, o = gate(into(0, h)), gate(into(1, h))
            f = 1 - i if input_forget else gate(into(2, h))
            new_c = f * c + i * g(into(3, h))
            new_h = o * np.tanh(new_c)
        live = np.ones((batch, 1), bool) if lengths is None else (t < lengths)[:, None]
        h, c = np.where(live, new_h, h), np.where(live, new_c, c)
        y.append(np.where(live, new_h, 0))
    return np.stack(y)

def both(op, attributes, lengths):
    names = ["x", "w", "r", "b"] + ([] if lengths is None else ["lengths"])
    values = dict(zip(names, [x, *weights[op]] + ([] if lengths is None else [lengths])))
    node = helper.make_node(op, names, ["y"], hidden_size=hidden, **attributes)
    kinds = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.int32): TensorProto.INT32}
    graph = helper.make_graph([node], "g", [helper.make_tensor_value_info(n, kinds[v.dtype], v.shape) for n, v in values.items()],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return ReferenceEvaluator(model).run(None, values)[0][:, 0], session.run(None, values)[0][:, 0]

lengths = np.array([5, 2, 3], np.int32)
holds = True
for op in weights:
    hard = ["HardSigmoid", "Tanh"] + ["Tanh"] * (op == "LSTM")
    rows = [("none", {}, {}, None), ("clip", {"clip": 0.3}, {"clip": 0.3}, None), ("sequence_lens", {}, {"lengths": lengths}, lengths)]
    rows += [("activations", {"activations": hard}, {"hard": True}, None)] * (op != "RNN")
    rows += [("input_forget", {"input_forget": 1}, {"input_forget": True}, None)] * (op == "LSTM")
    for name, attributes, formula, given in rows:
        right = by_formula(op, **formula)
        reference, runtime = (np.abs(y - right).max() for y in both(op, attributes, given))
        print(f"{op:5} {name:14} reference {reference:.2g} from the formulas, onnxruntime {runtime:.2g}")
        holds &= runtime < 1e-5 and (reference < 1e-5 if name == "none" else reference > 0.05)
sys.exit(not holds)
PY
