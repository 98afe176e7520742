#!/usr/bin/env bash
# Installing flash-linear-attention takes Mamba-2 and gated delta rule models away from the CPU.
#
# Versions: transformers 5.18.0, flash-linear-attention 0.5.2, triton 3.8.0, torch 2.13.0 (CPU).
# Behaviour: transformers has plain PyTorch code for the gated delta rule and for Mamba-2, and takes flash-linear-attention's
#   functions instead wherever that package can be imported, whatever device the tensors are on. Those are Triton kernels and
#   need a GPU's driver.
# Seen: qwen3_next, qwen3_5_text, olmo_hybrid and mamba2 answer on the CPU without the package; with it each call raises
#   "0 active drivers ([]). There should only be one." bamba, which has no such choice, goes on.
# Why it matters: a training image that has the package cannot run the same model on the CPU (tests, export, comparing logits,
#   model.to("cpu")), and the error names neither package nor remedy.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

cat >"$work/try.py" <<'PY'
import torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, head_dim=8,
              layer_types=["linear_attention", "full_attention"])
delta = dict(hybrid, linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
models = {
    "qwen3_next": dict(delta, num_experts=0, mlp_only_layers=[0, 1]),
    "qwen3_5_text": dict(delta, head_dim=16),
    "olmo_hybrid": {key: value for key, value in delta.items() if key != "head_dim"},
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
    "bamba": dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, attn_layer_indices=[1],
                  mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8),
}
for kind, settings in models.items():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    try:
        with torch.no_grad():
            model(torch.arange(12)[None])
        print(kind, "answers")
    except RuntimeError as error:
        print(kind, "raises", error)
PY
"$python" "$work/try.py" >"$work/without"
python_packages torch==2.13.0 transformers==5.18.0 numpy flash-linear-attention==0.5.2 fla-core==0.5.2 triton==3.8.0
"$python" "$work/try.py" >"$work/with"
echo "without flash-linear-attention:"; cat "$work/without"
echo "with it:"; cat "$work/with"
[[ $(grep -c ' answers$' "$work/without") == 5 ]]
[[ $(grep -cE '^(qwen3_next|qwen3_5_text|olmo_hybrid|mamba2) raises .*active drivers' "$work/with") == 4 ]]
grep -q '^bamba answers$' "$work/with"
