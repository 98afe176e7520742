#!/usr/bin/env bash
# Inkling with cache_implementation="static": each query takes itself for one token later than it is.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: attention reads the length of the cache before it writes to it, to know the relative positions of its queries. Of a static
#   cache's full layer that length is the tensor that the write then adds to in place, so that what was read before has
#   the value of after. A dynamic cache tells a plain number.
# Seen with four full layers ("hybrid"), greedy tokens after 3 prompts of 10: with the default cache and without a cache the same in 3 of 3,
#   with a static cache others in 3 of 3. With a get_seq_length() that gives a copy of its tensor, the static cache agrees in 3 of 3.
# Why it matters: a static cache is what torch.compile and export want. The relative bias of every step is that of its neighbour: the text is
#   fluent and another one. Whoever keeps the result of get_seq_length() has a number that grows by itself.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM, cache_utils

torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
    "inkling_text", vocab_size=64, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=4, layer_types=["hybrid"] * 4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=8, d_rel=4, rel_extent=16, n_routed_experts=4, num_experts_per_tok=2,
    n_shared_experts=1, pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
torch.manual_seed(1)
for weight in model.parameters():
    if weight.ndim >= 2:
        weight.data.normal_(std=0.2)

def texts(**settings):
    prompts = [torch.randint(3, 64, (1, 10), generator=torch.Generator().manual_seed(seed)) for seed in range(3)]
    return [model.generate(p, max_new_tokens=12, do_sample=False, eos_token_id=None, disable_compile=True, **settings).tolist() for p in prompts]

def same(a, b):
    return sum(x == y for x, y in zip(a, b))

with torch.no_grad():
    plain, dynamic, static = texts(use_cache=False), texts(), texts(cache_implementation="static")
    told = cache_utils.StaticLayer.get_seq_length
    cache_utils.StaticLayer.get_seq_length = lambda layer: torch.as_tensor(told(layer)).clone()
    copied = texts(cache_implementation="static")
seen = same(dynamic, plain), same(static, plain), same(copied, plain)
print(f"texts as without a cache, of 3: dynamic cache {seen[0]}, static cache {seen[1]}, static cache that tells a copy of its length {seen[2]}")
sys.exit(seen != (3, 0, 3))
PY
