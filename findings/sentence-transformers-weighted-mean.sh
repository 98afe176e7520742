#!/usr/bin/env bash
# sentence-transformers: weightedmean pooling in float16 has no value beyond 361 tokens, and padding on the left changes it.
#
# Versions: sentence-transformers 6.0.1, torch 2.13.0 (CPU).
# Behaviour: weights are 1, 2, 3, … over the row's places, padding too, in the type of the embeddings, and so is their sum. n (n + 1) / 2
#   is beyond float16's 65,504 from n = 362 on, and infinity by then; what is divided by it is 0, or NaN where it is infinite as well.
# Seen, tokens of a normal distribution: 361 in float16 7e-5 from float32; 362 all zeros; the same tokens plus 300 all NaN; mean pooling of 362 4e-5. With 4 tokens
#   and 2 of padding: on the right 0.0 from the tokens alone, on the left 0.19; mean pooling at most 6e-8 on either side.
# Why it matters: this pooling is for decoders (SGPT), which are run in float16 and padded on the left. A page of text has the same
#   embedding as every other page, or one NaN that spoils an index; a short text's embedding depends on its neighbours in the batch.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 sentence-transformers==6.0.1 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from sentence_transformers.sentence_transformer.modules import Pooling

def pool(mode, tokens, mask=None):
    mask = torch.ones(tokens.shape[:2], dtype=torch.long) if mask is None else mask
    return Pooling(tokens.shape[-1], pooling_mode=mode)({"token_embeddings": tokens.clone(), "attention_mask": mask})["sentence_embedding"]

torch.manual_seed(0)
tokens = torch.randn(1, 362, 8)
holds = True
for count in (361, 362):
    part = tokens[:, -count:]
    right, half = pool("weightedmean", part), pool("weightedmean", part.half())
    off = (half.float() - right).abs().max().item()
    zeros = bool((half == 0).all())
    print(f"{count} tokens in float16: {off:.2g} from float32, all zeros: {zeros}")
    holds &= zeros if count == 362 else off < 5e-3 and not zeros
shifted = pool("weightedmean", (tokens + 300).half())
mean = pool("mean", tokens.half())
print(f"362 tokens plus 300: {shifted[0, :3].tolist()}; mean pooling of 362 in float16: {(mean.float() - tokens.mean(1)).abs().max().item():.2g} off")
holds &= bool(shifted.isnan().all()) and (mean.float() - tokens.mean(1)).abs().max().item() < 5e-3

text, padding = torch.randn(1, 4, 8), torch.zeros(1, 2, 8)
ones, zeros = torch.ones(1, 4, dtype=torch.long), torch.zeros(1, 2, dtype=torch.long)
for mode in ("weightedmean", "mean"):
    alone = pool(mode, text)
    right = (pool(mode, torch.cat([text, padding], 1), torch.cat([ones, zeros], 1)) - alone).abs().max().item()
    left = (pool(mode, torch.cat([padding, text], 1), torch.cat([zeros, ones], 1)) - alone).abs().max().item()
    print(f"{mode}: padding on the right {right:.2g}, on the left {left:.2g} from the text alone")
    holds &= right < 1e-6 and (left > 0.01) == (mode == "weightedmean")
sys.exit(not holds)
PY
