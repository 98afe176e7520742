#!/usr/bin/env bash
# gate_proj, up_proj and down_proj mean the experts alone in models whose experts are one parameter: dense and shared blocks get no adapter.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: for model types whose experts transformers 5 fused, peft turns these three targets into target_parameters of the
#   fused tensors and takes them out of target_modules, whatever else is called so: the shared expert of each layer, and the
#   dense blocks of layers without experts.
# Seen: qwen3_next with experts: 4 adapted tensors, all of mlp.experts, none of mlp.shared_expert; without experts none at all and a
#   NoMatchingPeftModuleError for these names alone; beside q_proj no error, a warning and adapters on q_proj only.
# Why it matters: a file of adapters on such blocks loads with those left out; a recipe for Qwen3 trains less than it says.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
              head_dim=8, layer_types=["linear_attention", "full_attention"], linear_num_key_heads=2, linear_num_value_heads=4,
              linear_key_head_dim=8, linear_value_head_dim=8, num_experts_per_tok=2, moe_intermediate_size=16,
              shared_expert_intermediate_size=16)
names = ["gate_proj", "up_proj", "down_proj"]

def adapted(experts, targets):
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("qwen3_next", num_experts=experts, **common))
    called = {m for m, _ in model.named_modules() if m.split(".")[-1] in names}
    try:
        model = get_peft_model(model, LoraConfig(r=2, target_modules=list(targets)))
    except ValueError as error:
        return called, type(error).__name__
    return called, sorted({n.split(".lora_")[0].removeprefix("base_model.model.") for n, _ in model.named_parameters() if "lora_" in n})

called, fused = adapted(4, names)
print(f"with experts: {len(called)} modules are called so ({sorted(called)[0]} …), adapters stand at {fused}")
_, alone = adapted(0, names)
dense, beside = adapted(0, [*names, "q_proj"])
print(f"without: {len(dense)} modules are called so; these names alone: {alone}; beside q_proj: {beside}")
holds = all("shared_expert" in name for name in called) and all(".experts" in name for name in fused) and len(fused) > 0
sys.exit(not (holds and alone == "NoMatchingPeftModuleError" and len(dense) == 6 and all("q_proj" in name for name in beside)))
PY
