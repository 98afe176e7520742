#!/usr/bin/env bash
# LoRA by names of layers reaches the routed experts of some mixtures and not of others, and says nothing: target_modules mean other things by family.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: transformers 5 keeps the routed experts of a layer in two tensors, which are no linear layers. peft rewrites target_modules to
#   them for some model types (qwen3_next, minimax), and for others looks for linear layers as ever: experts are passed over.
# Seen with models of random weights, whether adapters are on routed experts (share of all weights): "all-linear": qwen3_next (61 %) and minimax (82 %) yes; qwen3_5_moe_text (61 %), jamba
#   (55 %), lfm2_moe (61 %) and granitemoehybrid (66 %) no. The same with gate_proj, up_proj, down_proj (w1, w2, w3), but that qwen3_next then has none on its shared experts, and qwen3_5_moe_text
#   on these alone. No warning speaks of experts.
# Why it matters: one recipe for two generations of Qwen trains complementary halves of the feed-forward layers. Of the four last
#   "all-linear" leaves most weights as they were. Names of the expert tensors in target_parameters reach them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, warnings, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
alternating = ["linear_attention", "full_attention"] * 2
mixture = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=32, head_dim=8, layer_types=alternating,
               linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
gated, numbered = ["gate_proj", "up_proj", "down_proj"], ["w1", "w2", "w3"]
models = {
    "qwen3_next": (gated, dict(common, **mixture)),
    "minimax": (numbered, dict(common, layer_types=alternating, num_local_experts=4, num_experts_per_tok=2, head_dim=8)),
    "qwen3_5_moe_text": (gated, dict(common, **mixture)),
    "jamba": (gated, dict(common, num_experts=4, num_experts_per_tok=2, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8)),
    "lfm2_moe": (numbered, dict(common, layer_types=["conv", "full_attention"] * 2, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, num_dense_layers=1)),
    "granitemoehybrid": (None, dict(common, layer_types=alternating, num_local_experts=4, num_experts_per_tok=2, shared_intermediate_size=64, mamba_n_heads=8, mamba_d_head=8,
                                    mamba_n_groups=2, mamba_d_state=8)),
}
def adapted(kind, settings, targets):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    kinds = {"routed": lambda name: "experts." in name and "shared" not in name, "shared": lambda name: "shared" in name}
    share = sum(w.numel() for n, w in model.named_parameters() if kinds["routed"](n)) / sum(w.numel() for w in model.parameters())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        model = get_peft_model(model, LoraConfig(r=2, target_modules=targets))
    said = sum("expert" in str(warning.message) for warning in said)
    names = [name for name, weight in model.named_parameters() if "lora_A" in name and weight.requires_grad]
    return share, {which: any(map(test, names)) for which, test in kinds.items()}, said

seen = {}
for kind, (names, settings) in models.items():
    for targets in filter(None, ("all-linear", names)):
        share, has, said = adapted(kind, settings, targets)
        seen[kind, targets == "all-linear"] = has["routed"], has["shared"], said
        print(f"{kind:17} {targets if targets == 'all-linear' else ', '.join(targets):28} adapters on routed experts ({share:.0%} of the weights): {has['routed']}, on shared ones: {has['shared']}, warnings of experts: {said}")
expected = {
    ("qwen3_next", True): (True, True, 0), ("qwen3_next", False): (True, False, 0),
    ("minimax", True): (True, False, 0), ("minimax", False): (True, False, 0),
    ("qwen3_5_moe_text", True): (False, True, 0), ("qwen3_5_moe_text", False): (False, True, 0),
    ("jamba", True): (False, False, 0), ("jamba", False): (False, False, 0),
    ("lfm2_moe", True): (False, False, 0), ("lfm2_moe", False): (False, False, 0),
    ("granitemoehybrid", True): (False, True, 0),
}
sys.exit(seen != expected)
PY
