#!/usr/bin/env bash
# DeepSeek-V4 reads padding that the mask hides: the compressed keys and values are pooled over it.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: compressed_sparse_attention and heavily_compressed_attention pool the states of each window of tokens into one entry. The windows are
#   counted from the row's start, whatever attention_mask says, and the entries made of padding are shown to every query after them.
# Seen, logits of 40 tokens behind 1, 4, 8 and 128 tokens of padding, masked, with position_ids that begin behind it, against the tokens
#   alone: sliding layers 1e-6 apart, compressed sparse ones 3.2 to 6.1, heavily compressed ones 2.7 to 5.7. Other ids in the
#   masked places change the logits by 1.4 to 5.7 (sliding layers: 0). Windows of 4 and 8 tokens, so that 8 tokens of padding fill whole windows.
# Why it matters: in a batch all prompts but the longest are padded on the left. Their answers depend on how long the longest
#   one is and on which token pads, and nothing says so. One prompt at a time is right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

ids = torch.randint(3, 64, (1, 40), generator=torch.Generator().manual_seed(5))
apart, changed = {}, {}
for kind in ("sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"):
    torch.manual_seed(0)
    # index_topk is beyond the number of entries, so that nothing is chosen among them.
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(
        "deepseek_v4", vocab_size=64, hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2, layer_types=[kind] * 2, mlp_layer_types=["moe"] * 2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=8, q_lora_rank=16, index_n_heads=2, index_head_dim=8, index_topk=64, sliding_window=6,
        compress_rates={"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}, n_routed_experts=4, num_experts_per_tok=2,
        pad_token_id=0, bos_token_id=1, eos_token_id=2)).eval()
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.is_floating_point() and weight.ndim >= 2:
            weight.data.normal_(std=0.2)

    def padded(count, token):
        row = torch.cat([torch.full((1, count), token), ids], 1)
        mask = torch.cat([torch.zeros(1, count, dtype=torch.long), torch.ones_like(ids)], 1)
        return model(row, attention_mask=mask, position_ids=(mask.cumsum(-1) - 1).clamp(min=0)).logits[:, count:]

    with torch.no_grad():
        alone = model(ids).logits
        apart[kind] = [(padded(n, 0) - alone).abs().max().item() for n in (1, 4, 8, 128)]
        changed[kind] = [(padded(n, 0) - padded(n, 7)).abs().max().item() for n in (1, 4, 8, 128)]
    print(f"{kind:29} from the tokens alone: {' '.join(f'{x:.2g}' for x in apart[kind])}; by other ids of padding: {' '.join(f'{x:.2g}' for x in changed[kind])}")
right, *wrong = apart
holds = max(apart[right] + changed[right]) < 1e-4 and all(min(apart[k] + changed[k]) > 0.1 for k in wrong)
sys.exit(not holds)
PY
