#!/usr/bin/env bash
# torch.onnx.export turns logsigmoid, logcumsumexp, expm1 and log1p into the formulas that these functions exist to avoid: a gate of -20 becomes -inf.
#
# Versions: torch 2.13.0, onnxscript 0.7.2, onnx 1.23.1, onnxruntime 1.30.0 (CPU).
# Behaviour: the exporter (dynamo) writes log(sigmoid(x)), exp(x) - 1, log(1 + x), and a running logarithm of sums of exponentials of x less the largest of all x. Where opset 18 has no attention operator,
#   scaled_dot_product_attention is written out, and a query that sees nothing gets the mean of all values instead of zeros.
# Seen in onnxruntime: logsigmoid of 1, -20, -80, -1000: -0.31, then -inf (torch: the numbers themselves); logcumsumexp of -100, -60, 1, 50: -inf, -inf, 1, 50; expm1 and log1p of 1e-8 and 3e-7: 0 and 3.58e-7;
#   the decay between two tokens after a gate of -110: NaN instead of -0.31. Attention at opset 18: the mean of all values (6e-8) where torch and opset 23 have 0.
# Why it matters: logsigmoid is the forget gate of gated linear attention, mLSTM and the forgetting transformer: one -inf in a cumulative sum of log decays makes NaN of every difference after it. expm1 is in the
#   discretisation of S4D and S5, where steps are small. Nothing is said at export; -softplus(-x) exports well. Padding in front of a prompt makes queries that see nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 onnxscript==0.7.2 onnx==1.23.1 onnxruntime==1.30.0 numpy

"$python" - "$work" 2>"$work/log" <<'PY' || { tail -5 "$work/log"; exit 1; }
import logging, sys
import numpy as np
import onnxruntime, torch
import torch.nn.functional as F

logging.disable(logging.WARNING)

class Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function
    def forward(self, *inputs):
        return self.function(*inputs)

def exported(function, *inputs, opset=18):
    path = f"{sys.argv[1]}/one.onnx"
    torch.onnx.export(Module(function), inputs, path, dynamo=True, opset_version=opset, verbose=False)
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {given.name: value.numpy() for given, value in zip(session.get_inputs(), inputs)})[0]

gates = torch.tensor([[1.0, -20, -80, -100, -1000]])
sums = torch.tensor([[-100.0, -60, 1, 50, 51]])
small = torch.tensor([[1e-8, 3e-7, 1e-6]])
exact_gates = -np.logaddexp(0, -gates.double().numpy())
exact_sums = np.logaddexp.accumulate(sums.double().numpy(), axis=1)
logsigmoid = exported(F.logsigmoid, gates)
softplus = exported(lambda x: -F.softplus(-x), gates)
less, more = exported(torch.expm1, small), exported(torch.log1p, small)
running = exported(lambda x: torch.logcumsumexp(x, 1), sums)
decays = exported(lambda x: (lambda total: total[:, 4:] - total[:, 3:4])(F.logsigmoid(x).cumsum(1)), torch.tensor([[1.0, 1, -110, 1, 1]]))
print(f"logsigmoid of {gates[0].tolist()}: torch {F.logsigmoid(gates)[0].tolist()}, exported {logsigmoid[0].tolist()}, -softplus(-x) exported {softplus[0].tolist()}")
print(f"logcumsumexp of {sums[0].tolist()}: torch {torch.logcumsumexp(sums, 1)[0].tolist()}, exported {running[0].tolist()}")
print(f"expm1 of {[f'{value:.2g}' for value in small[0].tolist()]}: torch {[f'{value:.3g}' for value in torch.expm1(small)[0].tolist()]}, exported {[f'{value:.3g}' for value in less[0].tolist()]}; log1p exported {[f'{value:.3g}' for value in more[0].tolist()]}")
print(f"decay between two tokens after a gate of -110: {decays[0, 0]}, right is {float(F.logsigmoid(torch.tensor(1.0))):.4f}")

torch.manual_seed(0)
q, k, v = (torch.randn(1, 1, 3, 8) for _ in range(3))
mask = torch.tensor([[[[False, False, False], [False, True, False], [False, True, True]]]])
attend = lambda q, k, v, mask: F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
rows = {opset: exported(attend, q, k, v, mask, opset=opset)[0, 0] for opset in (18, 23)}
right = attend(q, k, v, mask)[0, 0].numpy()
mean = float(np.abs(rows[18][0] - v[0, 0].mean(0).numpy()).max())
print(f"attention, a query that sees nothing: torch {float(np.abs(right[0]).max())}, opset 18 {mean:.0e} from the mean of all values, opset 23 {float(np.abs(rows[23][0]).max())}; other queries {float(np.abs(rows[18][1:] - right[1:]).max()):.0e} off")

sys.exit(not (np.allclose(F.logsigmoid(gates), exact_gates) and np.allclose(softplus, exact_gates) and np.isneginf(logsigmoid[0, 1:]).all() and np.allclose(logsigmoid[0, :1], exact_gates[0, :1])
              and np.allclose(torch.logcumsumexp(sums, 1), exact_sums) and np.isneginf(running[0, :2]).all() and np.allclose(running[0, 3:], exact_sums[0, 3:])
              and np.allclose(torch.expm1(small), np.expm1(small.double().numpy())) and less[0, 0] == 0 and abs(less[0, 1] / 3e-7 - 1) > 0.05 and more[0, 0] == 0 and abs(more[0, 1] / 3e-7 - 1) > 0.05
              and np.isnan(decays[0, 0])
              and mean < 1e-5 and not right[0].any() and not rows[23][0].any() and np.abs(rows[18][1:] - right[1:]).max() < 1e-5))
PY
