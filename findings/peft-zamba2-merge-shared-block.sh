#!/usr/bin/env bash
# Zamba2: merging LoRA adapters of the shared block adds all layers' adapters to the one weight that they share.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: Zamba2's transformer block is one set of tensors under several layers. peft wraps each layer's module, so that every use
#   trains an adapter of its own on the same base weight: the model through PeftModel is fine. merge_and_unload() then
#   adds each adapter's product to the shared tensor, so that every use gets the sum of all. There is no warning, as
#   there is for tied embeddings.
# Seen: one tensor under layers 1, 3 and 5; after merge_and_unload() its change equals the sum of the three adapters' products (2e-7),
#   and logits are 3.3 away from those before merging (their std: 0.85). With adapters on the Mamba layers' in_proj: 9e-6.
# Why it matters: merging is how adapters are shipped and converted (to GGUF, to runtimes without adapters). A merged Zamba2
#   is another model than the one that was evaluated; a reader of adapters must keep them apart by layer.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, warnings, torch
from peft import LoraConfig, get_peft_model
from transformers import Zamba2Config, Zamba2ForCausalLM

def build():
    torch.manual_seed(0)
    model = Zamba2ForCausalLM(Zamba2Config(
        vocab_size=64, hidden_size=32, num_hidden_layers=6, num_attention_heads=4, num_key_value_heads=4, intermediate_size=64,
        layers_block_type=["linear_attention", "hybrid"] * 3, mamba_d_state=8, mamba_ngroups=2, n_mamba_heads=8, mamba_headdim=8,
        chunk_size=8, num_mem_blocks=1, adapter_rank=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.15)
    return model

def merged(target):
    model = build()
    torch.manual_seed(2)
    ids = torch.randint(3, 64, (1, 16))
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=[target], init_lora_weights=False)).eval()
    for name, p in adapted.named_parameters():
        if "lora_" in name:
            p.data.normal_(std=0.3)
    wrapped = [m for n, m in adapted.named_modules() if n.endswith(target) and hasattr(m, "lora_A")]
    base = wrapped[0].base_layer.weight
    shared = sum(m.base_layer.weight.data_ptr() == base.data_ptr() for m in wrapped)
    before = base.detach().clone()
    deltas = [m.get_delta_weight("default").detach() for m in wrapped]
    with torch.no_grad(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        logits = adapted(ids).logits
        plain = adapted.merge_and_unload()
        change = base.detach() - before
        return (shared, (change - sum(deltas)).abs().max().item(), (change - deltas[0]).abs().max().item(),
                (plain(ids).logits - logits).abs().max().item(), logits.std().item(), [str(w.message) for w in said])

shared, to_sum, to_own, apart, std, said = merged("down_proj")
_, own_sum, own_delta, own_apart, _, _ = merged("in_proj")
print(f"down_proj of the shared block: one tensor under {shared} layers")
print(f"its change by merging, against the sum of the adapters {to_sum:.2g}, against the first layer's own {to_own:.2g}")
print(f"logits before and after merging: {apart:.2g} apart (std {std:.2g}); warnings: {said}")
print(f"in_proj of the Mamba layers: change against the layer's own adapter {own_delta:.2g}, logits {own_apart:.2g} apart")
sys.exit(not (shared == 3 and to_sum < 1e-5 < to_own and apart > 0.01 and own_apart < 1e-3 and not said))
PY
