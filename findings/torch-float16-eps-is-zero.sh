#!/usr/bin/env bash
# The eps of torch's Adam, F.normalize and F.cosine_similarity is nothing in float16: embeddings of tokens that a batch lacks are NaN after one step.
#
# Versions: torch 2.13.0 (CPU).
# Behaviour: eps is 1e-8 or 1e-12 by default, "to improve numerical stability" and "to avoid division by zero"; what is below 3e-8 is zero in float16, and the divisor is not guarded otherwise. Squares of gradients below 2e-4 are zero as
#   well. bfloat16 has the range. Nothing is raised.
# Seen, an embedding of 16 tokens in float16, one step for 3 of them: 14 rows are not finite afterwards with Adam, AdamW and NAdam, 13 with Adamax, RMSprop and Adagrad, 0 with Adafactor, SGD, and Adam with eps=1e-4; in bfloat16 and float32
#   0. normalize, cosine_similarity and cosine_embedding_loss of zeros: NaN in float16 alone; rms_norm 0.
# Why it matters: after model.half() and an Adam each row of the embedding that a batch does not use, and each dead unit, is NaN or infinite at once, others later: the loss is NaN whenever such a token comes. Zero rows, as of masked
#   pooling, make NaN of an index of embeddings. eps=1e-4 helps, float32 weights under autocast are right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 numpy

"$python" - <<'PY'
import sys, torch
import torch.nn.functional as F

optimizers = {
    "Adam": torch.optim.Adam, "AdamW": torch.optim.AdamW, "NAdam": torch.optim.NAdam, "Adamax": torch.optim.Adamax, "RMSprop": torch.optim.RMSprop, "Adagrad": torch.optim.Adagrad,
    "Adafactor": torch.optim.Adafactor, "SGD": torch.optim.SGD,
}
guarded = {"Adafactor", "SGD"}

def step(optimizer, dtype, **given):
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(16, 8, dtype=dtype)
    target = torch.randn(3, 8).to(dtype)
    optimizer = optimizer(embedding.parameters(), lr=0.01, **given)
    F.mse_loss(embedding(torch.tensor([1, 2, 3])), target).backward()
    optimizer.step()
    return int((~embedding.weight.isfinite()).any(1).sum()), bool(embedding.weight[1:4].isfinite().all())

holds = True
for name, optimizer in optimizers.items():
    lost = {dtype: step(optimizer, dtype) for dtype in (torch.float16, torch.bfloat16, torch.float32)}
    print(f"{name:9} a step for 3 of 16 tokens, rows that are not finite afterwards: " + ", ".join(f"{str(dtype)[6:]} {rows}" for dtype, (rows, _) in lost.items()))
    holds &= lost[torch.bfloat16][0] == lost[torch.float32][0] == 0 and (lost[torch.float16][0] == 0 if name in guarded else lost[torch.float16][0] >= 13)
helped = step(torch.optim.Adam, torch.float16, eps=1e-4)[0]
print(f"Adam with eps=1e-4, float16: {helped}")
holds &= helped == 0

for dtype in (torch.float16, torch.bfloat16, torch.float32):
    zero, one = torch.zeros(2, 4, dtype=dtype), torch.ones(2, 4, dtype=dtype)
    values = {"normalize": F.normalize(zero), "cosine_similarity": F.cosine_similarity(zero, one), "cosine_embedding_loss": F.cosine_embedding_loss(zero, one, torch.ones(2)), "rms_norm": F.rms_norm(zero, (4,))}
    broken = [name for name, value in values.items() if value.isnan().any()]
    print(f"{str(dtype)[6:]:8} of zeros, NaN: {', '.join(broken) or 'none'}")
    holds &= broken == (["normalize", "cosine_similarity", "cosine_embedding_loss"] if dtype is torch.float16 else [])
sys.exit(not holds)
PY
