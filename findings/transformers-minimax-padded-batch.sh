#!/usr/bin/env bash
# MiniMax: in a batch of prompts of unequal length, the shorter ones get other texts than alone, as soon as there is a cache.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the mask of a step is made for the length that the cache's first layer tells. Where the first layer is linear
#   (in MiniMax-Text-01 the first seven are), it holds no keys and says 0, so that the mask is one column wide: the padding in
#   front of a shorter prompt is no longer hidden from the softmax layers. The prefill is right, and so is a batch without padding.
# Seen: three prompts of 10 tokens, each beside one of 15: with the default cache 3 of 3 get other greedy tokens than alone; with
#   use_cache=False 0 of 3; the longer prompts 0 of 3. With a softmax layer first, 0 of 3 in every mode. get_seq_length() of the cache
#   after 15 tokens: 0, and 15 with the softmax layer first.
# Why it matters: batched generation of the published layout answers all but the longest prompt of a batch from a text with padding in it, fluently
#   and without a warning. A test with MiniMaxConfig's own default layers, which begin with softmax, passes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM

def model_of(layer_types):
    torch.manual_seed(0)
    model = MiniMaxForCausalLM(MiniMaxConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=len(layer_types), num_attention_heads=4, num_key_value_heads=2,
        head_dim=8, num_local_experts=2, num_experts_per_tok=1, layer_types=layer_types, pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.ndim >= 2:
            weight.data.normal_(std=0.2)
    return model

def differing(model, use_cache):
    """How many of three short prompts, and of the three long ones beside them, get other tokens in a batch than alone."""
    short = long = 0
    for seed in range(3):
        ids = torch.randint(3, 64, (2, 15), generator=torch.Generator().manual_seed(seed))
        ids[0, :5] = 0
        settings = dict(max_new_tokens=12, do_sample=False, eos_token_id=None, use_cache=use_cache)
        both = model.generate(ids, attention_mask=(ids != 0).long(), **settings)[:, 15:]
        alone = [model.generate(row[None], **settings)[0, len(row):] for row in (ids[0, 5:], ids[1])]
        short += not torch.equal(both[0], alone[0])
        long += not torch.equal(both[1], alone[1])
    return short, long

holds = True
linear, softmax = "linear_attention", "full_attention"
for name, layers, expected, length in (("linear first", [linear] * 3 + [softmax], (3, 0), 0), ("softmax first", [softmax] + [linear] * 3, (0, 0), 15)):
    model = model_of(layers)
    with torch.no_grad():
        seen, plain = differing(model, True), differing(model, False)
        told = model(torch.randint(3, 64, (1, 15)), use_cache=True).past_key_values.get_seq_length()
    print(f"{name:13} other tokens in a batch: {seen[0]} of 3 short and {seen[1]} of 3 long prompts, without a cache {plain[0]} and {plain[1]}; length told {told}")
    holds &= seen == expected and plain == (0, 0) and told == length
sys.exit(not holds)
PY
