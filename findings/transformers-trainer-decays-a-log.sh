#!/usr/bin/env bash
# Trainer's weight decay takes A_log, D and the decays of recurrent layers along, and forgets the norms that are called by another name.
#
# Versions: transformers 5.18.0, accelerate 1.15.0, torch 2.13.0 (CPU).
# Behaviour: what is not decayed is told by name ("bias", "norm", "layernorm", ...) and by nn.LayerNorm. A_log, D, time_decay and
#   time_first have no such name, and neither has norm_f, the last norm of three families.
# Seen, decayed besides matrices: mamba, mamba2 and nemotron_h A_log, D and norm_f; bamba, falcon_h1 and granitemoehybrid A_log and D; qwen3_next A_log; rwkv time_decay and
#   time_first; llama nothing. dt_bias is left alone. With learning rate 1e-3 and weight decay 0.1, 1,000 steps whose gradients are zero turn the rate exp(A_log) = 16 into 12.3.
# Why it matters: the rate of forgetting is exp(A_log): decay draws every head's to the same 1, that of norm_f scales all logits
#   down. A fine-tuned hybrid forgets otherwise for no reason in the data; an optimizer with groups of one's own is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, Trainer, TrainingArguments

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
alternating = ["linear_attention", "full_attention"] * 2
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
delta = dict(linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
models = {
    "mamba": dict(common, state_size=16),
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
    "bamba": dict(hybrid, attn_layer_indices=[1, 3], **mixer),
    "falcon_h1": dict(hybrid, mamba_d_ssm=64, **mixer),
    "granitemoehybrid": dict(hybrid, layer_types=alternating, num_local_experts=0, shared_intermediate_size=64, **mixer),
    "nemotron_h": dict(hybrid, layers_block_type=alternating, mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, head_dim=8),
    "qwen3_next": dict(hybrid, layer_types=alternating, head_dim=8, num_experts=0, mlp_only_layers=[0, 1, 2, 3], **delta),
    "rwkv": dict(common, attention_hidden_size=32),
    "llama": hybrid,
}
expected = {kind: {"A_log", "D"} for kind in models} | {
    "mamba": {"A_log", "D", "norm_f"}, "mamba2": {"A_log", "D", "norm_f"}, "nemotron_h": {"A_log", "D", "norm_f"},
    "qwen3_next": {"A_log"}, "rwkv": {"time_decay", "time_first"}, "llama": set(),
}
holds = True
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
    arguments = TrainingArguments(output_dir=sys.argv[1], weight_decay=0.1, learning_rate=1e-3, report_to=[], use_cpu=True)
    optimizer = Trainer(model=model, args=arguments).create_optimizer()
    decayed = {id(weight) for group in optimizer.param_groups if group["weight_decay"] for weight in group["params"]}
    found = set()
    for name, weight in model.named_parameters():
        own = name.removesuffix(".weight").split(".")[-1]
        if id(weight) in decayed and (weight.ndim < 2 or own == "A_log"):
            found.add(own)
    print(f"{kind:17} decayed besides matrices: {', '.join(sorted(found)) or 'nothing'}")
    holds &= found == expected[kind]
    if kind == "mamba":
        rate = lambda: model.backbone.layers[0].mixer.A_log.exp().max().item()
        for weight in model.parameters():
            weight.grad = torch.zeros_like(weight)
        before = rate()
        for _ in range(1000):
            optimizer.step()
        print(f"{'':17} largest exp(A_log) {before:.3g}, after 1,000 steps whose gradients are zero {rate():.3g}")
        holds &= abs(before - 16) < 1e-3 and rate() < 13
sys.exit(not holds)
PY
