#!/usr/bin/env bash
# LoHa and LoKr on the convolution of recurrent layers do nothing while they are trained and used, and change the model once they are merged.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: peft wraps the module conv1d. The layers never call it: they hand its weight to a function, and the wrapper's weight is the one below. LoRA is refused for it; LoHa and LoKr take it, report trainable
#   parameters and save a file.
# Seen beside adapters of another layer, logits changed by random weights of the convolution's adapter, and by the same once merged: mamba2 0 and 2.2 (LoHa), 0 and 5.5 (LoKr), granitemoehybrid 0 and 4.4, 0 and 7.4,
#   nemotron_h 0 and 2.7, 0 and 3.7, qwen3_next 0 and 6.1, 0 and 7.9; none of the weights has a gradient. o_proj of llama: 2.0 and 2.0, 6.0 and 6.0, all weights have one.
# Why it matters: whoever lists all layers of a mixer trains parameters without a gradient, and is told nothing as long as others have one; a merge with weights of random start (init_weights=False, or a file of
#   another program) makes another model than the one that was evaluated.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoHaConfig, LoKrConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
alternating = dict(attention, layer_types=["linear_attention", "full_attention"])
delta = dict(head_dim=8, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
models = {
    "mamba2": (dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2), "conv1d"),
    "granitemoehybrid": (dict(alternating, num_local_experts=0, shared_intermediate_size=64, mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8), "conv1d"),
    "nemotron_h": (dict(attention, layers_block_type=["linear_attention", "full_attention"], mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, head_dim=8), "conv1d"),
    "qwen3_next": (dict(alternating, num_experts=0, mlp_only_layers=[0, 1], **delta), "conv1d"),
    "llama": (attention, "o_proj"),
}
ids = torch.randint(3, 64, (1, 16), generator=torch.Generator().manual_seed(2))
holds = True
for kind, (settings, target) in models.items():
    for method in (LoHaConfig, LoKrConfig):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
        torch.manual_seed(1)
        for name, weight in model.named_parameters():
            if weight.ndim >= 2 and "A_log" not in name:
                weight.data.normal_(std=0.3)
        other = "q_proj" if kind in ("qwen3_next", "llama") else "in_proj"
        adapted = get_peft_model(model, method(target_modules=[target, other], r=4))
        weights = {name: weight for name, weight in adapted.named_parameters() if weight.requires_grad}
        own = [weight for name, weight in weights.items() if f".{target}." in name]
        with torch.no_grad():
            before = adapted(input_ids=ids).logits
        torch.manual_seed(3)
        for weight in own:
            weight.data.normal_(std=0.3)
        adapted(input_ids=ids, labels=ids).loss.backward()
        graded = sum(weight.grad is not None and bool(weight.grad.any()) for weight in own)
        with torch.no_grad():
            used = float((adapted(input_ids=ids).logits - before).abs().max())
            merged = float((adapted.merge_and_unload()(ids).logits - before).abs().max())
        print(f"{method.__name__} on {target} of {kind:17}: {len(own)} adapter weights, {graded} with a gradient; they change logits by {used:.2g} as an adapter, by {merged:.2g} once merged")
        if target == "conv1d":
            holds &= len(own) > 0 and graded == 0 and used == 0 and merged > 0.1
        else:
            holds &= graded > 0 and used > 0.1 and abs(used - merged) < 1e-3
sys.exit(not holds)
PY
