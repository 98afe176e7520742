#!/usr/bin/env bash
# LoRA adapters of single experts are left out when an adapter of Jamba or LFM2-MoE is loaded, and nothing says so; Qwen3-Next's are taken.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: checkpoints hold experts one by one, and adapters of single experts lie under names such as
#   feed_forward.experts.0.gate_proj. transformers 5 joins experts as it loads. peft joins such adapters for qwen3_next, and has no place for those of jamba and lfm2_moe: they are
#   "unexpected", which from_pretrained() does not report.
# Seen with adapter files of random values under these names, beside those of the dense layers: jamba 48 of 60 tensors, lfm2_moe 72 of 78 are dropped, without a warning; logits with
#   the whole file and with the experts' part cut out of it are the same to the bit. qwen3_next: 96 of 96 are used. save_pretrained() of all three models writes
#   the experts under the very names that the adapters have.
# Why it matters: an adapter that was trained on single experts, elsewhere or before they were joined, answers with a small part of itself, and is
#   evaluated and merged so. The number of parameters loaded is what tells.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 safetensors==0.8.0 numpy

"$python" - "$work" <<'PY'
import json, sys, warnings, torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

folder, rank, width, experts = sys.argv[1], 2, 32, 4
common = dict(vocab_size=64, hidden_size=width, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, num_experts=experts, num_experts_per_tok=2,
              pad_token_id=0, bos_token_id=1, eos_token_id=2)
alternating = ["linear_attention", "full_attention"] * 2
models = {
    "jamba": ("feed_forward.experts", 64, ("gate_proj", "up_proj", "down_proj"), dict(attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8)),
    "lfm2_moe": ("feed_forward.experts", 16, ("w1", "w3", "w2"), dict(layer_types=["conv", "full_attention"] * 2, moe_intermediate_size=16, num_dense_layers=1)),
    "qwen3_next": ("mlp.experts", 16, ("gate_proj", "up_proj", "down_proj"), dict(
        moe_intermediate_size=16, shared_expert_intermediate_size=16, head_dim=8, layer_types=alternating,
        linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)),
}
def random_model(kind, settings):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **common, **settings)).eval()

seen = {}
for kind, (where, inner, names, settings) in models.items():
    random_model(kind, settings).save_pretrained(f"{folder}/model")
    of_experts = [name for name in load_file(f"{folder}/model/model.safetensors") if f".{where}." in name and name.endswith(".weight")]
    get_peft_model(random_model(kind, settings), LoraConfig(r=rank, target_modules=list(names))).save_pretrained(folder)
    config = json.load(open(f"{folder}/adapter_config.json"))
    config.update(target_modules=list(names), target_parameters=None, rank_pattern={}, alpha_pattern={})
    json.dump(config, open(f"{folder}/adapter_config.json", "w"))
    torch.manual_seed(1)
    dense = {name: torch.randn_like(value) * 0.3 for name, value in load_file(f"{folder}/adapter_model.safetensors").items() if "experts" not in name}
    single = {}
    for name in of_experts:
        into, out = (inner, width) if name.split(".")[-2] == names[2] else (width, inner)
        stem = f"base_model.model.{name.removesuffix('.weight')}"
        single |= {f"{stem}.lora_A.weight": torch.randn(rank, into) * 0.3, f"{stem}.lora_B.weight": torch.randn(out, rank) * 0.3}
    logits, said = [], []
    for tensors in (dense | single, dense):
        save_file(tensors, f"{folder}/adapter_model.safetensors")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            model = PeftModel.from_pretrained(random_model(kind, settings), folder).eval()
        said += [str(warning.message) for warning in caught if "expert" in str(warning.message) or "nexpected" in str(warning.message)]
        with torch.no_grad():
            logits.append(model(torch.arange(3, 33)[None]).logits)
        if tensors is not dense:
            used = sum(weight.abs().sum().item() for name, weight in model.named_parameters() if "lora_" in name and "experts" in name and "shared" not in name)
    stored = sum(value.abs().sum().item() for value in single.values())
    apart = (logits[0] - logits[1]).abs().max().item()
    seen[kind] = used / stored, apart, len(said)
    print(f"{kind:11} {len(dense)} tensors of dense layers and {len(single)} of experts; of the latter's values {used / stored:.0%} loaded; logits with and without them {apart:.2g} apart; warnings {len(said)}")
dropped = all(seen[kind] == (0, 0, 0) for kind in ("jamba", "lfm2_moe"))
sys.exit(not (dropped and abs(seen["qwen3_next"][0] - 1) < 1e-3 and seen["qwen3_next"][1] > 1e-2))
PY
