#!/usr/bin/env bash
# onnx's own reference takes the logarithm of a rounded softmax: LogSoftmax is -inf from 17 below the best in float16, losses are infinite.
#
# Versions: onnx 1.23.1 (reference evaluator), onnxruntime 1.30.0 (CPU).
# Behaviour: LogSoftmax and SoftmaxCrossEntropyLoss compute softmax first, in the type of the input, and its logarithm then. What softmax rounds to zero has the
#   logarithm -inf, and the smallest numbers before that are coarse.
# Seen for logits 0, -50, -100, -110 and -10000 in float32: 0, -50, -99.98, -inf, -inf; onnxruntime has the logits themselves. In float16, 0, -12 and -20: 0, -12, -inf
#   against 0, -12, -20. SoftmaxCrossEntropyLoss with the label at -110: inf against 110. Of 4,000 logits of a normal distribution times 6, in float16: 2,860 are -inf; none in onnxruntime.
# Why it matters: language models give most of a vocabulary less than exp(-17). Log probabilities and perplexities that are checked against the reference
#   look wrong in the runtime that is right; expected outputs made by it hold -inf, of which no difference can be taken.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages onnx==1.23.1 onnxruntime==1.30.0 numpy

"$python" - <<'PY'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

types = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "int64": TensorProto.INT64}
def both(op, **inputs):
    values = [helper.make_tensor_value_info(name, types[str(value.dtype)], value.shape) for name, value in inputs.items()]
    result = helper.make_tensor_value_info("y", types[str(next(iter(inputs.values())).dtype)], None)
    graph = helper.make_graph([helper.make_node(op, list(inputs), ["y"])], "one", values, [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=10)
    with np.errstate(divide="ignore"):
        return ReferenceEvaluator(model).run(None, inputs)[0], onnxruntime.InferenceSession(model.SerializeToString()).run(None, inputs)[0]

single = np.array([[0, -50, -100, -110, -10000]], np.float32)
half = np.array([[0, -12, -20]], np.float16)
many = (6 * np.random.default_rng(0).standard_normal((1, 4000))).astype(np.float16)
seen = [both("LogSoftmax", x=x) for x in (single, half, many)]
loss = both("SoftmaxCrossEntropyLoss", x=single, label=np.array([3], np.int64))
for (reference, runtime), name in zip(seen, ("float32", "float16")):
    print(f"LogSoftmax of {name}: {reference[0].tolist()}, onnxruntime {runtime[0].tolist()}")
infinite = [int(np.isinf(rows).sum()) for rows in seen[2]]
print(f"-inf among 4,000 in float16: {infinite[0]}, onnxruntime {infinite[1]}")
print(f"SoftmaxCrossEntropyLoss at -110: {loss[0]}, onnxruntime {loss[1]}")
sys.exit(not (np.isinf(seen[0][0][0, 3:]).all() and np.allclose(seen[0][1], single) and np.isinf(seen[1][0][0, 2])
              and np.allclose(seen[1][1], half, atol=0.01) and infinite[0] > 100 and infinite[1] == 0
              and np.isinf(loss[0]) and np.isclose(loss[1], 110)))
PY
