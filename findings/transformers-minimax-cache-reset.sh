#!/usr/bin/env bash
# A MiniMax cache that was reset() still knows the text before; caches of the other hybrids cannot be multiplied for a batch.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: MiniMaxCache keeps its linear states in a list of its own, which reset() does not touch. A layer of recurrent states in the common DynamicCache has
#   no batch_repeat_interleave() and batch_select_indices(); layers that hold attention and states (falcon_h1) multiply the half of attention.
# Seen with models of random weights: logits of a text after another one and reset(), against those with a new cache: minimax 8.1, llama, bamba, falcon_h1, lfm2 and qwen3_next 0. A prompt read once,
#   its cache multiplied by batch_repeat_interleave(3), and three continuations: llama 4e-6 from the texts as a whole, minimax IndexError, bamba, lfm2 and qwen3_next AttributeError, falcon_h1
#   RuntimeError at the next call, of sizes that do not match.
# Why it matters: reset() is there to use a cache for the next prompt, and with MiniMax the next answer goes on from the last one, silently. Many samples
#   of one prompt cost its prefill each time with a hybrid, or copy.deepcopy() and one call for each.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
alternating = ["linear_attention", "full_attention"] * 2
mixer = dict(mamba_n_heads=8, mamba_d_head=8, mamba_n_groups=2, mamba_d_state=8)
models = {
    "llama": common,
    "minimax": dict(common, layer_types=alternating, num_local_experts=2, num_experts_per_tok=1, head_dim=8, block_size=8),
    "bamba": dict(common, attn_layer_indices=[1, 3], **mixer),
    "falcon_h1": dict(common, mamba_d_ssm=64, **mixer),
    "lfm2": dict(common, layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False),
    "qwen3_next": dict(common, layer_types=alternating, head_dim=8, num_experts=0, mlp_only_layers=[0, 1, 2, 3], linear_key_head_dim=8, linear_value_head_dim=8,
                       linear_num_key_heads=2, linear_num_value_heads=2),
}
torch.manual_seed(3)
former, text, following = (torch.randint(3, 64, (1, n)) for n in (20, 20, 3))
seen = {}
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    read = lambda ids, cache=None, start=0: model(ids, past_key_values=cache, use_cache=True, position_ids=torch.arange(start, start + ids.shape[1])[None].expand(ids.shape[0], -1))
    with torch.no_grad():
        cache = read(former).past_key_values
        cache.reset()
        reset = (read(text, cache).logits - read(text).logits).abs().max().item()
        rows = torch.cat([text.expand(3, -1), following.T], 1)
        try:
            cache = read(text).past_key_values
            cache.batch_repeat_interleave(3)
            repeated = (read(following.T, cache, text.shape[1]).logits[:, -1] - model(rows).logits[:, -1]).abs().max().item()
        except (AttributeError, RuntimeError, IndexError) as error:
            repeated = type(error).__name__
    seen[kind] = reset, repeated
    print(f"{kind:11} logits after reset() {reset:.2g} from those with a new cache; three continuations of one prompt by batch_repeat_interleave(3): {repeated if isinstance(repeated, str) else f'{repeated:.2g} apart'}")
others = {"bamba": "AttributeError", "falcon_h1": "RuntimeError", "lfm2": "AttributeError", "qwen3_next": "AttributeError"}
sys.exit(not (seen["minimax"][0] > 0.1 and seen["minimax"][1] == "IndexError" and seen["llama"][0] == 0 and seen["llama"][1] < 1e-4
              and all(seen[kind] == (0, error) for kind, error in others.items())))
PY
