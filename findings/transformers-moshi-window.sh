#!/usr/bin/env bash
# Moshi attends within its sliding window while it generates, and to everything in a forward without a cache: two models beyond the window.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: sliding_window (3,000 by default) is the length of the cache's layers, which drop what is older. The mask of a forward is a plain
#   causal one.
# Seen with one layer and a window of 6, 24 tokens of which the first is another one: the logits of token 24 change by 0.47 in one forward,
#   and by 0.0 token by token; mistral with the same window: 0.0 in both. Token by token against one forward: up to 4.2 apart from token 7 on, 1e-6 before;
#   with a window of 24: 2e-6 throughout.
# Why it matters: 3,000 tokens are four minutes of speech. A model trained or scored by forward on longer ones is not the one that generates,
#   and whoever checks a port against forward finds the difference only beyond the window.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

ids = torch.randint(3, 64, (1, 24), generator=torch.Generator().manual_seed(5))
other = torch.cat([(ids[:, :1] + 1) % 64, ids[:, 1:]], 1)
seen = {}
for kind, window in (("moshi", 6), ("moshi", 24), ("mistral", 6)):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        kind, vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=window,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, **({"ffn_dim": 64} if kind == "moshi" else {"intermediate_size": 64}))).eval()
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.ndim >= 2:
            weight.data.normal_(std=0.2)

    def steps(text):
        cache, rows = None, []
        for i in range(text.shape[1]):
            out = model(text[:, i : i + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            rows.append(out.logits)
        return torch.cat(rows, 1)

    with torch.no_grad():
        forward, stepped = model(ids).logits, steps(ids)
        by_forward = (model(other).logits - forward)[:, -1].abs().max().item()
        by_steps = (steps(other) - stepped)[:, -1].abs().max().item()
        apart = (forward - stepped).abs().amax(-1)[0]
    within, beyond = apart[:6].max().item(), apart[6:].max().item()
    seen[kind, window] = [x > 1e-2 for x in (by_forward, by_steps, within, beyond)]
    print(f"{kind:8} window {window:2}: the first token moves the logits of the last by {by_forward:.2g} in a forward, {by_steps:.2g} in steps; "
          f"steps from the forward {within:.2g} within 6 tokens, {beyond:.2g} beyond")
expected = {("moshi", 6): [True, False, False, True], ("moshi", 24): [True, True, False, False], ("mistral", 6): [False] * 4}
sys.exit(seen != expected)
PY
