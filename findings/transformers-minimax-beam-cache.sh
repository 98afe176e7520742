#!/usr/bin/env bash
# Beam search of MiniMax with a cache follows other beams than it keeps.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: MiniMaxCache holds the states of lightning attention in a list of its own. It overrides
#   batch_repeat_interleave and batch_select_indices for them, but not reorder_cache: after a step of beam search the
#   keys and values of the attention layers move with their beams, and the linear states stay where they were.
# Seen: with a model of random weights, reorder_cache([1, 0]) leaves the linear states untouched; the next token's logits
#   are up to 0.97 away from those of the reordered texts (7e-7 with the states moved by hand); 4 of 4 prompts give other
#   texts with use_cache=True than with use_cache=False. Nothing is raised.
# Why it matters: beam search of MiniMax-Text-01 type models returns other texts than the model's best ones, and scores
#   that belong to no text. Without a cache, or greedy, all is well.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM

torch.manual_seed(0)
model = MiniMaxForCausalLM(MiniMaxConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, num_local_experts=2, num_experts_per_tok=1, block_size=8, eos_token_id=None, pad_token_id=0,
    layer_types=["linear_attention", "full_attention"] * 2)).eval()
for name, weight in model.named_parameters():
    weight.data.mul_(6 if weight.ndim >= 2 else 1)

with torch.no_grad():
    texts = torch.randint(1, 64, (2, 12))
    token = torch.randint(1, 64, (2, 1))
    swapped = torch.tensor([1, 0])
    right = model(torch.cat([texts[swapped], token], 1)).logits[:, -1]

    def step_after_swap(by_hand):
        cache = model(texts, use_cache=True).past_key_values
        before = [s.clone() for s in cache.linear_cache if len(s)]
        cache.reorder_cache(swapped)
        moved = any(not torch.equal(b, s) for b, s in zip(before, [s for s in cache.linear_cache if len(s)]))
        if by_hand:
            cache.linear_cache = [s[swapped] if len(s) else s for s in cache.linear_cache]
        logits = model(token, past_key_values=cache, use_cache=True, position_ids=torch.tensor([[12], [12]])).logits[:, -1]
        return moved, (logits - right).abs().max().item()

    moved, wrong = step_after_swap(by_hand=False)
    _, mended = step_after_swap(by_hand=True)
    print(f"linear states moved by reorder_cache: {moved}")
    print(f"next logits against the reordered texts: {wrong:.3g}; with the states moved by hand {mended:.3g}")

    differing = 0
    for seed in range(4):
        torch.manual_seed(seed)
        prompt = torch.randint(1, 64, (1, 24))
        given = dict(max_new_tokens=12, do_sample=False, num_beams=3)
        differing += not torch.equal(model.generate(prompt, **given), model.generate(prompt, use_cache=False, **given))
    print(f"prompts whose beam search differs with and without a cache: {differing} of 4")

sys.exit(not (not moved and wrong > 0.05 and mended < 1e-4 and differing > 0))
PY
