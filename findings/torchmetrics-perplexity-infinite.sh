#!/usr/bin/env bash
# Perplexity of torchmetrics takes the logarithm of a rounded softmax and adds in the type of the logits: infinite for a batch of 16,384 tokens in float16, and for one surprising token in any type.
#
# Versions: torchmetrics 1.9.0, torch 2.13.0 (CPU).
# Behaviour: a probability that is too small for its type is 0, and its logarithm infinite; the sum over a batch is float16 or bfloat16 where the logits are, which end at 65,504 and have 8 bits.
# Seen, logits of a vocabulary of 256 (mean loss about 6) against cross_entropy of the same logits in floats: 1,024 tokens: float16 419.5 for 419.2, bfloat16 416.2; 16,384 tokens (sum 98,700): float16 inf, bfloat16 416.2 for 414.4. One token whose logit is 18
#   below the best in float16, or 105 in float32, among 100: inf, where the perplexity is 1.2 and 2.9.
# Why it matters: validation of a model in float16 says inf, by the size of the batch, where the loss is fine; one unlikely token of a test set decides all of a float32 run.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 torchmetrics==1.9.0 numpy

"$python" - <<'PY'
import math, sys, torch
from torch.nn.functional import cross_entropy
from torchmetrics.text import Perplexity

def both(logits, targets):
    metric = Perplexity()
    metric.update(logits[None], targets[None])
    return float(metric.compute()), math.exp(float(cross_entropy(logits.float(), targets)))

torch.manual_seed(0)
seen = {}
for tokens in (1024, 16384):
    logits, targets = torch.randn(tokens, 256), torch.randint(256, (tokens,))
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        seen[tokens, dtype] = got, right = both(logits.to(dtype), targets)
        print(f"{tokens} tokens, {dtype}: {got:.4f}, by cross_entropy {right:.4f}")
for dtype, below in ((torch.float16, 18), (torch.float32, 105)):
    logits = torch.zeros(100, 2)
    logits[:, 0] = 30
    logits[-1, 0] = below
    targets = torch.zeros(100, dtype=torch.int64)
    targets[-1] = 1
    seen["rare", dtype] = got, right = both(logits.to(dtype), targets)
    print(f"99 sure tokens and one {below} below the best, {dtype}: {got:.4f}, by cross_entropy {right:.4f}")

def off(key):
    got, right = seen[key]
    return abs(got / right - 1)

holds = all(off((tokens, torch.float32)) < 1e-4 for tokens in (1024, 16384)) and off((1024, torch.float16)) < 5e-3
holds &= seen[16384, torch.float16][0] == math.inf and max(off((tokens, torch.bfloat16)) for tokens in (1024, 16384)) > 3e-3
holds &= all(seen["rare", dtype][0] == math.inf and seen["rare", dtype][1] < 4 for dtype in (torch.float16, torch.float32))
sys.exit(not holds)
PY
