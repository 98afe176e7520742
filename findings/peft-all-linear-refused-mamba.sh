#!/usr/bin/env bash
# target_modules="all-linear" cannot be used with Mamba, Mamba-2, Falcon-H1 and Nemotron-H: peft chooses a layer that it refuses.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: "all-linear" lists every linear layer but the head, out_proj among them; for five model types a later check refuses
#   any target of that name. It goes by the name alone, so that layers of that name outside the mixer would be refused too, and by the model
#   type: bamba, granitemoehybrid and zamba2, with the same mixer, are not checked.
# Seen: ValueError "Module 'out_proj' is incompatible with Mamba-based models" for mamba, mamba2, falcon_mamba, falcon_h1 and
#   nemotron_h; bamba, granitemoehybrid and zamba2 take it, and of these the adapter on out_proj counts (logits change).
# Why it matters: recipes with "all-linear" (the documented choice for QLoRA) fail on these families; the way out is the list of names.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
kinds = ["linear_attention", "full_attention"]
models = {
    "mamba": common,
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
    "falcon_mamba": common,
    "falcon_h1": dict(hybrid, mamba_d_ssm=64, **mixer),
    "nemotron_h": dict(hybrid, layers_block_type=kinds, mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, head_dim=8),
    "bamba": dict(hybrid, attn_layer_indices=[1], **mixer),
    "granitemoehybrid": dict(hybrid, layer_types=kinds, num_local_experts=0, shared_intermediate_size=64, **mixer),
    "zamba2": dict(hybrid, layers_block_type=["linear_attention", "hybrid"], mamba_d_state=8, mamba_ngroups=2, n_mamba_heads=8,
                   mamba_headdim=8, num_mem_blocks=1, adapter_rank=4),
}
def build(kind):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **models[kind])).eval()

refused, effects = [], {}
ids = torch.arange(3, 15)[None]
for kind in models:
    try:
        get_peft_model(build(kind), LoraConfig(r=2, target_modules="all-linear"))
    except ValueError as error:
        refused.append(kind)
        print(f"{kind}: {str(error)[:110]}")
        continue
    model = build(kind)
    with torch.no_grad():
        plain = model(ids).logits
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["out_proj"], init_lora_weights=False))
        for name, p in adapted.named_parameters():
            if "lora_" in name:
                p.normal_()
        effects[kind] = (adapted(ids).logits - plain).abs().max().item()
    print(f"{kind}: taken; an adapter on out_proj moves logits by {effects[kind]:.2g}")
sys.exit(not (refused == list(models)[:5] and list(effects) == list(models)[5:] and min(effects.values()) > 1e-4))
PY
