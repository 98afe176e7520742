#!/usr/bin/env bash
# MiniMax in bfloat16 loses precision the longer it decodes: its recurrent state is kept in bfloat16.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the state of lightning attention takes the dtype of the activations. Token by token, each update is rounded to
#   8 bits, and where the decay is slow a new token's share is smaller than that; a prefill of the same tokens rounds once
#   a block (256 tokens) only. Mamba, Mamba-2 and gated delta rule layers of the same release keep float32 states.
# Seen: relative error of the logits against float32 with the same weights, over 64 tokens from position 0 / 512 / 1024 / 1984:
#   one forward 0.0049 / 0.0043 / 0.0045 / 0.0047, token by token 0.0050 / 0.0122 / 0.0156 / 0.0175.
# Why it matters: long generations of a bfloat16 checkpoint drift from what the model says about the same text in one
#   forward; a port that keeps float32 states "disagrees" with the reference and is the better of the two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM

torch.set_num_threads(1)
config = MiniMaxConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, num_local_experts=2, num_experts_per_tok=1, layer_types=["linear_attention", "full_attention"] * 2)
torch.manual_seed(0)
model = MiniMaxForCausalLM(config).eval().bfloat16()
exact = MiniMaxForCausalLM(config).eval().bfloat16()
exact.load_state_dict(model.state_dict())
exact.float()

length = 2048
torch.manual_seed(2)
ids = torch.randint(1, 64, (1, length))

def by_token():
    cache, logits = None, []
    for i in range(length):
        out = model(ids[:, i:i + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits.float())
    return torch.cat(logits, 1), {s.dtype for s in cache.linear_cache if len(s)}

with torch.no_grad():
    right = exact(ids).logits
    whole = model(ids).logits.float()
    steps, dtypes = by_token()

def error(logits, start):
    part = slice(start, start + 64)
    return ((logits - right)[:, part].pow(2).mean().sqrt() / right.std()).item()

print("dtype of the linear states:", dtypes)
for start in (0, 512, 1024, 1984):
    print(f"from {start:4}: one forward {error(whole, start):.4f}, token by token {error(steps, start):.4f}")
drifts = error(steps, 1024) > 1.8 * error(whole, 1024) and error(steps, 1024) > 2 * error(steps, 0)
sys.exit(not (dtypes == {torch.bfloat16} and drifts))
PY
