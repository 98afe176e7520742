#!/usr/bin/env bash
# rotary-embedding-torch counts positions in the type of the queries: in bfloat16 neighbours share a position beyond 256, and floats that follow do as well.
#
# Versions: rotary-embedding-torch 0.9.1, torch 2.13.0 (CPU).
# Behaviour: rotate_queries_or_keys() makes the positions by arange in the dtype of what it rotates. The angles are computed from these in floats, and kept for later calls, whatever the type of those.
# Seen, 1,024 positions, largest difference from the rotation of the same values in floats: bfloat16 0.01 at the first 256 positions, 5.3 beyond (257 is 256, 1,023 is 1,024; 513 different ones of 1,024). In floats after
#   one call in bfloat16: 5.3, and 0 with cache_if_possible=False, which changes nothing within a call. float16: 2e-3 up to 2,048 positions, 3.8 beyond.
# Why it matters: models in bfloat16, the usual type, cannot tell the order of neighbouring tokens beyond 256; evaluating the same module in floats later repeats that, so that the two agree with one another.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 rotary-embedding-torch==0.9.1 numpy

"$python" - <<'PY'
import sys, torch
from rotary_embedding_torch import RotaryEmbedding

def apart(a, b):
    return (a.float() - b.float()).abs().amax(-1).flatten()

torch.manual_seed(0)
holds = True
for dtype, exact, length in ((torch.bfloat16, 256, 1024), (torch.float16, 2048, 4096)):
    queries = torch.randn(1, 1, length, 64).to(dtype)
    right = RotaryEmbedding(64).rotate_queries_or_keys(queries.float())
    for settings in ({}, {"cache_if_possible": False}):
        module = RotaryEmbedding(64, **settings)
        rotated = apart(module.rotate_queries_or_keys(queries), right)
        after = apart(module.rotate_queries_or_keys(queries.float()), right)
        within, beyond = float(rotated[:exact].max()), float(rotated[exact:].max())
        print(f"{dtype} {settings}: {within:.2g} off in the first {exact} positions, {beyond:.2g} beyond; floats afterwards {float(after.max()):.2g}")
        holds &= within < 0.05 and beyond > 3 and (float(after.max()) > 3) == (not settings)
same = RotaryEmbedding(64).rotate_queries_or_keys(torch.ones(1, 1, 1024, 64, dtype=torch.bfloat16))[0, 0]
different = len(torch.unique(same, dim=0))
print(f"different rotations of one vector at 1,024 positions in bfloat16: {different}")
sys.exit(not (holds and different < 600))
PY
