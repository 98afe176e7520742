#!/usr/bin/env bash
# Packed batches of hybrid models: attention keeps to its sequence, the recurrent state runs on into the next one.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU, none of the optional kernels).
# Behaviour: DataCollatorWithFlattening packs sequences into one row and says where they begin, by position_ids, seq_idx and
#   cu_seq_lens. Attention masks are made from that. The plain PyTorch paths of the mixers take all these arguments and
#   use none: the state and the window of the convolution go from one sequence to the next. Nothing is raised or logged.
# Seen: logits of the second of two packed sequences against the same sequence alone, largest difference: llama 9e-7;
#   mamba 2.6, mamba2 14, jamba 2.2, bamba 2.1, falcon_h1 0.14, granitemoehybrid 1.8, nemotron_h 2.1, zamba2 0.38, lfm2 0.21,
#   qwen3_next 2.5, olmo_hybrid 3.8, minimax 1.3 (models of random weights; zero is right).
# Why it matters: padding-free training (the `padding_free` of common trainers) of these models where the kernels are missing
#   learns from mixed documents, and evaluations on packed text are wrong. A check with an attention model shows nothing.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, DataCollatorWithFlattening

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
alternating = ["linear_attention", "full_attention"] * 2
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8, mamba_chunk_size=8)
delta = dict(linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=2)
models = {
    "llama": attention,
    "mamba": dict(common, state_size=8),
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2, chunk_size=8),
    "jamba": dict(attention, num_experts=1, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8),
    "bamba": dict(attention, attn_layer_indices=[1, 3], **mixer),
    "falcon_h1": dict(attention, mamba_d_ssm=64, **mixer),
    "granitemoehybrid": dict(attention, layer_types=alternating, num_local_experts=0, shared_intermediate_size=64, **mixer),
    "nemotron_h": dict(attention, layers_block_type=alternating, mamba_num_heads=8, mamba_head_dim=8, n_groups=2,
                       ssm_state_size=8, chunk_size=8, head_dim=8),
    "zamba2": dict(attention, layers_block_type=["linear_attention", "hybrid"] * 2, mamba_d_state=8, mamba_ngroups=2,
                   n_mamba_heads=8, mamba_headdim=8, chunk_size=8, num_mem_blocks=1, use_mem_rope=True, adapter_rank=4),
    "lfm2": dict(attention, layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False),
    "qwen3_next": dict(attention, layer_types=alternating, head_dim=8, num_experts=0, mlp_only_layers=[0, 1, 2, 3], **delta),
    "olmo_hybrid": dict(attention, layer_types=alternating, **delta),
    "minimax": dict(attention, layer_types=alternating, num_local_experts=2, num_experts_per_tok=1, head_dim=8, block_size=8),
}
torch.manual_seed(3)
first, second = (torch.randint(3, 64, (n,)).tolist() for n in (10, 14))
collate = DataCollatorWithFlattening(return_position_ids=True, return_seq_idx=True, return_flash_attn_kwargs=True)
packed = collate([{"input_ids": first}, {"input_ids": second}])
packed.pop("labels")
print("told to the models:", ", ".join(packed))

leaks = {}
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name and "embed" not in name:
            weight.data.mul_(6)
    with torch.no_grad():
        alone = model(torch.tensor([second])).logits
        leaks[kind] = (model(**packed, use_cache=False).logits[:, len(first):] - alone).abs().max().item()
    print(f"{kind:17} {leaks[kind]:.2g}")
control = leaks.pop("llama")
sys.exit(not (control < 1e-4 and min(leaks.values()) > 0.02))
PY
