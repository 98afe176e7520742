#!/usr/bin/env bash
# torch.distributions in bfloat16: RelaxedOneHotCategorical and Gumbel noise choose the first entries, Geometric is 17 % too large; F.gumbel_softmax and Categorical are right.
#
# Versions: torch 2.13.0 (CPU).
# Behaviour: these distributions start from uniform numbers in the type of their parameters, of which bfloat16 has 256 and float16 2,048, and take logarithms of them. Most of a large row ties with its largest value, and argmax takes the first;
#   large values are missing or far too large. F.gumbel_softmax takes logarithms of exponential numbers, which keep their small values.
# Seen, 1,000 equal entries, shares of the first and last quarter in bfloat16: RelaxedOneHotCategorical 0.86 and 0.002, argmax of logits and Gumbel noise 0.64 and 0.03; float16 0.33 and 0.18, 0.30 and 0.21; F.gumbel_softmax and Categorical
#   0.25. Gumbel: mean 0.514 for 0.577, largest of a million 4.4 (float32 15.2). Geometric(0.01): mean 115.5 for 99, largest 8,704 (float32 1,343).
# Why it matters: routers and codebooks that are trained with relaxed choices, and sampling by the Gumbel trick, prefer small indexes in the type that most models have, and nothing rare is ever chosen. Parameters in float32 are the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 numpy

"$python" - <<'PY'
import sys, torch
from torch import distributions
from torch.nn.functional import gumbel_softmax

entries, rows = 1000, 20_000

def quarters(chosen):
    return float((chosen < entries // 4).double().mean()), float((chosen >= 3 * entries // 4).double().mean())

seen = {}
for dtype in (torch.float32, torch.float16, torch.bfloat16):
    torch.manual_seed(0)
    logits = torch.zeros(entries, dtype=dtype)
    zero, one, rare = (torch.tensor(value, dtype=dtype) for value in (0.0, 1.0, 0.01))
    gumbel = distributions.Gumbel(zero, one)
    chosen = {
        "RelaxedOneHotCategorical": distributions.RelaxedOneHotCategorical(one / 2, logits=logits).sample((rows,)).argmax(-1),
        "logits + Gumbel": (logits + gumbel.sample((rows, entries))).argmax(-1),
        "gumbel_softmax": gumbel_softmax(logits.expand(rows, entries), hard=True).argmax(-1),
        "Categorical": distributions.Categorical(logits=logits).sample((rows,)),
    }
    noise = gumbel.sample((1_000_000,)).double()
    trials = distributions.Geometric(probs=rare).sample((1_000_000,)).double()
    seen[dtype] = {name: quarters(choice) for name, choice in chosen.items()} | {"Gumbel": (float(noise.mean()), float(noise.max())), "Geometric": (float(trials.mean()), float(trials.max()))}
    print(dtype, {name: tuple(round(value, 3) for value in values) for name, values in seen[dtype].items()})

right, half, brain = seen.values()
holds = all(abs(right[name][i] - 0.25) < 0.02 for name in chosen for i in (0, 1)) and abs(right["Gumbel"][0] - 0.577) < 0.01 and abs(right["Geometric"][0] - 99) < 1
holds &= all(abs(part[name][0] - 0.25) < 0.02 for part in (half, brain) for name in ("gumbel_softmax", "Categorical"))
holds &= brain["RelaxedOneHotCategorical"][0] > 0.7 and brain["logits + Gumbel"][0] > 0.5 and half["RelaxedOneHotCategorical"][0] > 0.29 and half["logits + Gumbel"][0] > 0.27
holds &= brain["Gumbel"][1] < 5 < 10 < right["Gumbel"][1] and brain["Geometric"][0] > 108 and brain["Geometric"][1] > 5000 > right["Geometric"][1]
sys.exit(not holds)
PY
