#!/usr/bin/env bash
# RecurrentGemma: a prompt of one token goes on from the state of whatever text the model read before.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the states of the convolution and of the RG-LRU lie in the module, not in the cache. A call of several tokens
#   starts them anew; a call of one token takes what is there, even with a new, empty cache at position 0.
# Seen: logits of one and the same token at position 0 are 7.1 apart after two different texts, and generate() from that token
#   alone gives other tokens after other prompts. With the module's states cleared by hand: the same each time.
# Why it matters: unconditional generation starts from exactly one token (<bos>). What comes out depends on the call before, and
#   a test of it passes or fails by the order of tests.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import DynamicCache, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

torch.manual_seed(0)
model = RecurrentGemmaForCausalLM(RecurrentGemmaConfig(
    vocab_size=64, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64,
    lru_width=32, head_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=None)).eval()
torch.manual_seed(1)
for weight in model.parameters():
    if weight.ndim >= 2:
        weight.data.normal_(std=0.4)
first = torch.tensor([[1]])
others = torch.randint(2, 64, (2, 20))

def answer(other, cleared):
    model.generate(other[None], max_new_tokens=2, do_sample=False)
    if cleared:
        model.model._setup_cache(model.config, 1, first.device, torch.float32)
    with torch.no_grad():
        logits = model(first, past_key_values=DynamicCache(), use_cache=True, position_ids=torch.zeros(1, 1, dtype=int)).logits
    model.generate(other[None], max_new_tokens=2, do_sample=False)
    if cleared:
        model.model._setup_cache(model.config, 1, first.device, torch.float32)
    return logits, model.generate(first, max_new_tokens=12, do_sample=False)[0].tolist()

(a, text_a), (b, text_b) = answer(others[0], False), answer(others[1], False)
(c, text_c), (d, text_d) = answer(others[0], True), answer(others[1], True)
print(f"logits of the first token after two texts: {(a - b).abs().max():.2f} apart, {(c - d).abs().max():.2g} with the states cleared")
print("generated after one:    ", text_a)
print("generated after another:", text_b)
print("with the states cleared:", text_c, "the same" if text_c == text_d else text_d)
sys.exit(not ((a - b).abs().max() > 0.1 and text_a != text_b and (c - d).abs().max() < 1e-5 and text_c == text_d))
PY
