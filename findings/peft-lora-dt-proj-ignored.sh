#!/usr/bin/env bash
# LoRA on dt_proj of Mamba-1 models does nothing while it is trained and used, and changes the model once it is merged.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: mamba, falcon_mamba and jamba multiply with `self.dt_proj.weight` and never call the layer, so that an adapter on
#   it is skipped and gets no gradient. peft refuses out_proj and conv1d of such models for this reason, but takes dt_proj;
#   and of jamba, "all-linear" takes it, too. merge_and_unload() adds the adapter's product to the weight, where it counts.
# Seen, with adapters of random values: effect on the logits 0.0 in all three; gradient of lora_A and lora_B None; after merge_and_unload()
#   logits change by 0.097 (mamba), 3.7 (falcon_mamba), 6.6 (jamba).
# Why it matters: published adapters with dt_proj among their targets were trained without it. They answer one way
#   through PeftModel and another merged; the parameters counted as trainable are not.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
models = {
    "mamba": dict(common, state_size=8),
    "falcon_mamba": dict(common, state_size=8),
    "jamba": dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, num_experts=1, num_experts_per_tok=1,
                  attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, mamba_dt_rank=4),
}
holds = True
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.2)
    ids = torch.randint(3, 64, (1, 16))
    plain = model(ids).logits.detach()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["dt_proj"], init_lora_weights=False))
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    for p in trained.values():
        p.data.normal_(std=0.5)
    used = adapted(ids, labels=ids)
    # The weights that adapters stand beside are asked for gradients as well, so that there is something to differentiate.
    for p in adapted.parameters():
        p.requires_grad_(True)
    adapted(ids, labels=ids).loss.backward()
    gradients = [p.grad for p in trained.values()]
    with torch.no_grad():
        effect = (used.logits - plain).abs().max().item()
        merged = (adapted.merge_and_unload()(ids).logits - plain).abs().max().item()
    none = all(g is None for g in gradients)
    print(f"{kind:12} {len(trained)} adapter tensors; effect on logits {effect:.2g}, gradients all None: {none}, after merging {merged:.2g}")
    holds &= effect == 0 and none and merged > 1e-3
sys.exit(not holds)
PY
