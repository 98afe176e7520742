#!/usr/bin/env bash
# generate() with a cache that already holds the prompt's beginning reads that beginning again: mamba2, falcon_mamba, rwkv, minimax.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: generate() cuts off what a cache has seen by past_key_values.get_seq_length(). mamba2, falcon_mamba and mamba name their cache cache_params, rwkv
#   its own state, and neither is looked at; MiniMaxCache answers 0, as its first layer is linear. The whole prompt goes
#   to the model on top of the state, without an error. bamba, granitemoehybrid and qwen3_next cut.
# Seen, after 20 of 27 tokens were read into the cache: tokens of the first call inside generate() 27 for the four, 7 for the others; logits of the
#   first new token differ from a fresh run by 0.21 to 4.0 for the four, by 5e-6 at most for the others.
# Why it matters: reusing a system prompt's cache is the documented way to save its prefill. With these models it saves nothing and
#   changes the answer: the state has seen the beginning twice.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
alternating = ["linear_attention", "full_attention"] * 2
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
models = {
    "mamba2": ("cache_params", dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2)),
    "falcon_mamba": ("cache_params", dict(common, state_size=8)),
    "rwkv": ("state", dict(common, attention_hidden_size=32)),
    "minimax": ("past_key_values", dict(hybrid, layer_types=alternating, num_local_experts=2, num_experts_per_tok=1, head_dim=8)),
    "bamba": ("past_key_values", dict(hybrid, attn_layer_indices=[1, 3], **mixer)),
    "granitemoehybrid": ("past_key_values", dict(hybrid, layer_types=alternating, num_local_experts=0, shared_intermediate_size=64, **mixer)),
    "qwen3_next": ("past_key_values", dict(hybrid, layer_types=alternating, head_dim=8, num_experts=0, mlp_only_layers=[0, 1, 2, 3],
                                           linear_key_head_dim=8, linear_value_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4)),
}
read, apart = {}, {}
for kind, (name, settings) in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for key, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in key:
            weight.data.normal_(std=0.3)
    torch.manual_seed(2)
    prompt = torch.randint(3, 64, (1, 27))
    lengths = []
    given = dict(max_new_tokens=2, do_sample=False, eos_token_id=None, output_logits=True, return_dict_in_generate=True)
    fresh = model.generate(prompt, **given).logits[0]
    with torch.no_grad():
        cache = model(input_ids=prompt[:, :20], use_cache=True)[name]
    handle = model.register_forward_pre_hook(lambda _, __, named: lengths.append(named["input_ids"].shape[1]), with_kwargs=True)
    reused = model.generate(prompt, **{name: cache}, **given).logits[0]
    handle.remove()
    read[kind], apart[kind] = lengths[0], (reused - fresh).abs().max().item()
    print(f"{kind:17} {name:16} first call reads {read[kind]} tokens, logits {apart[kind]:.2g} from a fresh run")
four, others = list(models)[:4], list(models)[4:]
sys.exit(not (all(read[k] == 27 and apart[k] > 1e-2 for k in four) and all(read[k] == 7 and apart[k] < 1e-3 for k in others)))
PY
