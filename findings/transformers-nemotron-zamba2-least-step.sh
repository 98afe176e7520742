#!/usr/bin/env bash
# Nemotron-H and Zamba2 hold dt to time_step_min in a prompt and not while they generate, by default, and time_step_limit of the config changes nothing: a head that was to stand still moves in one of the two.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the two take (time_step_min, infinity) for the limits of dt, 0.001 unless the config says otherwise; time_step_min is the smallest step at the start of training elsewhere, and no limit. The scan over a prompt clamps, a step does not.
#   mamba2, bamba and falcon_h1 with default settings have no limits.
# Seen, 400 tokens and heads whose dt is 1e-4 to 5e-4, logits token by token against one forward: nemotron_h 11, zamba2 8.6, with the config's time_step_limit [0, infinity] the same to the bit; bamba and mamba2 6e-5 at most. With the floor taken
#   out of the modules 2e-5 and 2e-4.
# Why it matters: slow heads are what a state-space layer remembers long texts by; in a prompt they forget and write up to ten times as fast as trained or as later in the same answer. Ports that keep to the config, or to the kernels' default of no
#   limits, agree with steps and not with prompts, and none can agree with both.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

torch.set_num_threads(1)
common = dict(vocab_size=64, hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
mamba = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
models = {
    "nemotron_h": dict(common, layers_block_type=["linear_attention", "full_attention", "linear_attention", "mlp"], mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, head_dim=8),
    "zamba2": dict(common, num_hidden_layers=4, layers_block_type=["linear_attention", "hybrid"] * 2, num_mem_blocks=2, tie_word_embeddings=True, n_mamba_heads=8, mamba_headdim=8,
                   mamba_ngroups=2, mamba_d_state=8, adapter_rank=4),
    "bamba": dict(common, **mamba, num_hidden_layers=4, attn_layer_indices=[1, 3]),
    "mamba2": dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_heads=8, head_dim=8, n_groups=2, state_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2),
}
length = 400

def apart(kind, floor=True, **more):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **models[kind], **more)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2:
            weight.data.normal_(std=0.3)
        elif name.endswith("dt_bias"):
            weight.data = torch.linspace(-9.2, -7.6, weight.numel())  # dt from 1e-4 to 5e-4
        elif name.endswith(".D"):
            weight.data.zero_()
    for name, module in model.named_modules():
        if hasattr(module, "dt_bias"):
            module.in_proj.weight.data[-module.dt_bias.numel() :] *= 0.01
            if not floor:
                module.time_step_limit = (0.0, float("inf"))
    ids = torch.randint(3, 64, (1, length), generator=torch.Generator().manual_seed(0))
    cache = "cache_params" if kind == "mamba2" else "past_key_values"
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        out = model(input_ids=ids[:, :1], use_cache=True)
        rows = [out.logits]
        for i in range(1, length):
            positions = {} if kind == "mamba2" else dict(position_ids=torch.tensor([[i]]))
            out = model(input_ids=ids[:, i : i + 1], use_cache=True, **{cache: out[cache]}, **positions)
            rows.append(out.logits)
    return (torch.cat(rows, 1) - whole).abs().max().item()

holds = True
for kind in models:
    default = apart(kind)
    print(f"{kind}: steps {default:.2g} from one forward", end="")
    if kind in ("nemotron_h", "zamba2"):
        limited, freed = apart(kind, time_step_limit=[0.0, float("inf")]), apart(kind, floor=False)
        print(f", with time_step_limit [0, inf] {limited:.2g}, with the floor taken out {freed:.2g}")
        holds &= default > 0.3 and limited == default and freed < default / 100
    else:
        print()
        holds &= default < 1e-2
sys.exit(not holds)
PY
