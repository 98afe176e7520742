#!/usr/bin/env bash
# RWKV and Falcon-H1 with mamba_rms_norm: a step of a batch adds the sequences into one another, and generate() returns mixed texts.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: in a call of one token RWKV multiplies activations of shape (batch, 1, width) with the former ones of shape (batch, width), and Falcon-H1's
#   gated norm drops the axis of length 1 before it multiplies with a gate that has it. Both become (batch, batch, width): every sequence meets each other one.
# Seen, a batch of 3 with one token each: logits of shape (3, 3, vocabulary) instead of (3, 1, vocabulary), in both; texts of a batch of 3 prompts of equal length, 10 greedy tokens:
#   0 of 3 as alone; bamba, and falcon_h1 without the norm: shape (3, 1, vocabulary), 3 of 3. Calls of several tokens, and a batch of one, are right. Nothing is raised.
# Why it matters: batched generation and evaluation answer each prompt out of all of them. A check of prefill, or of generate() with
#   one prompt, passes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
models = {
    "rwkv": ("rwkv", dict(common, attention_hidden_size=32)),
    "falcon_h1 with its norm": ("falcon_h1", dict(hybrid, mamba_d_ssm=64, mamba_rms_norm=True)),
    "falcon_h1 without": ("falcon_h1", dict(hybrid, mamba_d_ssm=64, mamba_rms_norm=False)),
    "bamba": ("bamba", dict(hybrid, attn_layer_indices=[1, 3])),
}
seen = {}
for name, (kind, settings) in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for key, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in key:
            weight.data.normal_(std=0.3)
    torch.manual_seed(2)
    prompts = torch.randint(3, 64, (3, 8))
    with torch.no_grad():
        shape = tuple(model(prompts[:, :1]).logits.shape)
        several = (model(prompts).logits - torch.cat([model(prompt[None]).logits for prompt in prompts])).abs().max().item()
    given = dict(max_new_tokens=10, do_sample=False, eos_token_id=None)
    together = model.generate(prompts, attention_mask=torch.ones_like(prompts), **given)
    same = sum(torch.equal(row, model.generate(prompt[None], **given)[0]) for row, prompt in zip(together, prompts))
    seen[name] = shape, same
    print(f"{name:24} logits of 3 sequences of one token {shape}, texts as alone {same} of 3; 8 tokens each: {several:.2g} apart")
mixed, right = [((3, 3, 64), 0)] * 2, [((3, 1, 64), 3)] * 2
sys.exit(list(seen.values()) != mixed + right)
PY
