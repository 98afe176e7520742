#!/usr/bin/env bash
# RecurrentGemma with cache_implementation="static" generates other tokens, without a word.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: lengths of a cache are asked of its first layer. RecurrentGemma's first layers are recurrent and never write to
#   the cache, so that get_seq_length() is 0 for ever. A dynamic cache is cut to what is there and does not mind; with a
#   static one the mask of each step is made for position 0, and shows the first token alone.
# Seen: greedy tokens after a prompt of 24: the default cache and no cache agree in all 16, a static cache differs in 3 of 3
#   prompts. get_seq_length() after 24 tokens: 0; of the attention layer: 24. bamba and lfm2 (a recurrent first layer, too)
#   agree with all kinds of cache.
# Why it matters: a static cache is what torch.compile and export want; here it returns fluent, wrong text.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, StaticCache

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
              intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
models = {
    "recurrent_gemma": dict(common, lru_width=32, head_dim=8),
    "bamba": dict(common, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8),
    "lfm2": dict(common, layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False),
}
differing, lengths = {}, {}
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    differing[kind] = [0, 0]
    for seed in range(3):
        torch.manual_seed(seed)
        prompt = torch.randint(3, 64, (1, 24))
        given = dict(max_new_tokens=16, do_sample=False, eos_token_id=None)
        usual = model.generate(prompt, **given)
        for i, kind_of in enumerate((dict(use_cache=False), dict(cache_implementation="static"))):
            differing[kind][i] += not torch.equal(usual, model.generate(prompt, **given, **kind_of))
    masks = []
    attention = next((m for m in model.modules() if type(m).__name__ == "RecurrentGemmaAttention"), None)
    if attention is not None:
        handle = attention.register_forward_pre_hook(
            lambda _, given, named: masks.extend(x for x in (*given, *named.values()) if getattr(x, "dtype", None) == torch.bool),
            with_kwargs=True)
        model.generate(prompt, **given, cache_implementation="static")
        handle.remove()
        visible = [int(mask[0, 0, -1].sum()) for mask in masks]
        print("places that RecurrentGemma's steps may see of 25, 26, ...:", visible)
    cache = StaticCache(config=model.config, max_cache_len=64)
    with torch.no_grad():
        model(prompt, past_key_values=cache, use_cache=True)
    lengths[kind] = cache.get_seq_length()
    print(f"{kind:16} prompts of 3 that differ from the default cache: without a cache {differing[kind][0]}, "
          f"static {differing[kind][1]}; get_seq_length() after 24 tokens: {lengths[kind]}")
sys.exit(not (set(visible) == {1} and differing["recurrent_gemma"][0] == 0 and differing["recurrent_gemma"][1] > 0 and lengths["recurrent_gemma"] == 0
              and differing["bamba"] == differing["lfm2"] == [0, 0] and lengths["bamba"] == lengths["lfm2"] == 24))
PY
