#!/usr/bin/env bash
# Mamba-1 models forget their state when more than one token follows on a cache: a prompt in two pieces is half a prompt.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: mamba, falcon_mamba and jamba start the selective scan from zero in every call of several tokens. The window of the
#   convolution does go on. One token at a time, and the Mamba-2 models in any pieces, are right.
# Seen, 16 tokens and then 8 on the cache, last logits against one forward of all 24: mamba 1.3, falcon_mamba 0.65, jamba 0.03 apart; a run
#   whose states were set to zero by hand between the pieces gives exactly the same (0.0). mamba2 and bamba: 2e-6.
# Why it matters: prompts in chunks, a cached system prompt and the checking of drafted tokens all feed several tokens to a
#   cache. The answer looks sane, and the state-space layers know of what came before the last piece three
#   tokens.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
hybrid = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
models = {
    "mamba": ("cache_params", dict(common, state_size=8)),
    "falcon_mamba": ("cache_params", dict(common, state_size=8)),
    "jamba": ("past_key_values", dict(hybrid, num_experts=1, num_experts_per_tok=1, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8)),
    "mamba2": ("cache_params", dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2)),
    "bamba": ("past_key_values", dict(hybrid, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)),
}
apart, forgotten = {}, {}
for kind, (cache_name, settings) in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    ids = torch.randint(3, 64, (1, 24))

    def in_two(forget):
        out = model(ids[:, :16], use_cache=True)
        cache = out[cache_name]
        if forget:
            for layer in cache.layers:
                for state in getattr(layer, "recurrent_states", {}).values():
                    state.zero_()
        positions = {} if cache_name == "cache_params" else {"position_ids": torch.arange(16, 24)[None]}
        return model(ids[:, 16:], use_cache=True, **{cache_name: cache}, **positions).logits[:, -1]

    with torch.no_grad():
        whole, pieces, without = model(ids).logits[:, -1], in_two(False), in_two(True)
    apart[kind] = (pieces - whole).abs().max().item()
    forgotten[kind] = (pieces - without).abs().max().item()
    print(f"{kind:13} in two pieces {apart[kind]:.2g} from one forward, {forgotten[kind]:.2g} from a run that forgets")
first, second = ["mamba", "falcon_mamba", "jamba"], ["mamba2", "bamba"]
sys.exit(not (all(apart[k] > 1e-2 and forgotten[k] == 0 for k in first) and all(apart[k] < 1e-3 < forgotten[k] for k in second)))
PY
