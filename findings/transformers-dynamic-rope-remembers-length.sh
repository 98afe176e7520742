#!/usr/bin/env bash
# RoPE of type dynamic: what a model says to a text depends on the longest text that it has read before.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: beyond max_position_embeddings the frequencies are made for the length of the call, and kept in the module for all later calls
#   until a longer one comes, or one within max_position_embeddings, which sets them back.
# Seen: logits of the same 40 tokens (max_position_embeddings 32) before and after a call of 100 tokens: llama 13, lfm2 0.4, falcon_h1 5.9 apart;
#   after a call of 16 tokens they are the first ones again. Types linear and yarn: 0.
# Why it matters: a server's answers to texts beyond the trained length change with what other requests it had, and so does perplexity with
#   the order of documents; a comparison with a reference must be made in a fresh process, or after a short call.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
              max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2)
models = {
    "llama": common,
    "lfm2": dict(common, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "falcon_h1": dict(common, mamba_d_ssm=64, mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8),
}
torch.manual_seed(3)
text, longer, short = (torch.randint(3, 64, (1, n)) for n in (40, 100, 16))

def changes(kind, rope):
    torch.manual_seed(0)
    rope = dict(rope, rope_theta=10000.0, factor=4.0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **models[kind], rope_parameters=rope)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.4)
    with torch.no_grad():
        first = model(text).logits
        model(longer)
        second = model(text).logits
        model(short)
        third = model(text).logits
    return (second - first).abs().max().item(), (third - first).abs().max().item()

holds = True
for kind in models:
    after_long, after_short = changes(kind, {"rope_type": "dynamic"})
    others = [changes(kind, {"rope_type": name, **more})[0]
              for name, more in (("linear", {}), ("yarn", {"original_max_position_embeddings": 32}))]
    print(f"{kind:10} dynamic: {after_long:.2g} apart after a longer call, {after_short:.2g} after a short one; linear, yarn: {others}")
    holds &= after_long > 1e-2 and after_short == 0 and others == [0, 0]
sys.exit(not holds)
PY
