#!/usr/bin/env bash
# Attention's fourth output: onnx's own reference returns softcapped scores where the specification asks for raw ones.
#
# Versions: onnx 1.23.1 (reference evaluator), onnxruntime 1.30.0 (CPU), opsets 23 and 24.
# Behaviour: qk_matmul_output_mode says what the output qk_matmul_output is: 0 the product of Q and K, 1 after softcap, 2 with the mask as well, 3 after softmax. The
#   reference has softcapped scores in mode 0 too. In mode 2 it writes -inf for what is masked, onnxruntime the smallest number of the type.
# Seen with softcap 2: mode 0 is 2*tanh(QK/2) in the reference, QK in onnxruntime; mode 1 and the output Y agree (3e-7). Mode 2 with a causal mask: -inf
#   against -3.4e38. Without softcap mode 0 agrees.
# Why it matters: whoever checks a runtime or an exported model (Gemma 2's softcap, alignments of words by attention) against onnx.reference finds
#   a fault that is not there, and max() - min() of the scores of mode 2 is infinite in one and a number in the other.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages onnx==1.23.1 onnxruntime==1.30.0 numpy==2.4.6

"$python" - <<'PY'
import sys
import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)
rng = np.random.default_rng(0)
q, k, v = (rng.standard_normal((1, 2, 4, 8), dtype=np.float32) for _ in range(3))
raw = q @ k.transpose(0, 1, 3, 2) / np.sqrt(8)
capped = 2 * np.tanh(raw / 2)
future = np.triu(np.ones((4, 4), bool), 1)

def scores(opset, **attributes):
    float32 = TensorProto.FLOAT
    node = helper.make_node("Attention", ["q", "k", "v"], ["y", "", "", "scores"], **attributes)
    inputs = [helper.make_tensor_value_info(name, float32, q.shape) for name in "qkv"]
    outputs = [helper.make_tensor_value_info(name, float32, None) for name in ("y", "scores")]
    model = helper.make_model(helper.make_graph([node], "attention", inputs, outputs), opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    feeds = {"q": q, "k": k, "v": v}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds), ReferenceEvaluator(model).run(None, feeds)

near = lambda a, b: bool(np.allclose(a, b, atol=1e-5))
holds = True
for opset in (23, 24):
    (y, runtime), (yr, reference) = scores(opset, softcap=2.0, qk_matmul_output_mode=0)
    (_, runtime1), (_, reference1) = scores(opset, softcap=2.0, qk_matmul_output_mode=1)
    (_, runtime2), (_, reference2) = scores(opset, is_causal=1, qk_matmul_output_mode=2)
    (_, plain), (_, plain_reference) = scores(opset, qk_matmul_output_mode=0)
    print(f"opset {opset}: mode 0 raw: onnxruntime {near(runtime, raw)}, reference {near(reference, raw)} (capped {near(reference, capped)});",
          f"mode 1 capped: {near(runtime1, capped)}, {near(reference1, capped)}; Y differs by {np.abs(y - yr).max():.0e};",
          f"masked in mode 2: {runtime2[..., future].max():.3g}, {reference2[..., future].max()}")
    holds &= near(runtime, raw) and not near(reference, raw) and near(reference, capped) and near(runtime1, capped) and near(reference1, capped)
    holds &= near(y, yr) and near(plain, raw) and near(plain_reference, raw)
    holds &= bool(np.isfinite(runtime2).all()) and runtime2[..., future].max() < -1e38 and bool(np.isneginf(reference2[..., future]).all())
sys.exit(0 if holds else 1)
PY
