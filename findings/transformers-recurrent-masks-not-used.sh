#!/usr/bin/env bash
# xLSTM, RecurrentGemma and RWKV take attention_mask and do not keep padding out of their states: shorter prompts of a batch get other texts.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: generate() and tokenizers give a mask for prompts that are padded on the left. xLSTM and RWKV read it nowhere, RecurrentGemma
#   for its attention alone; mamba and mamba2 set padding to zero. Nothing is raised.
# Seen, a prompt of 9 tokens behind 11 of masked padding against the prompt alone: logits xlstm 11, recurrent_gemma 5.9, rwkv 3.6 apart, and about as much changes with the token that pads; mamba
#   and mamba2 at most 5e-7. 24 greedy tokens in a batch with a prompt of 20, of 4 as alone: xlstm and recurrent_gemma 0 padded and 4 unpadded ones, mamba and mamba2 4 and 4. (rwkv 0 and 0: its batches mix
#   sequences besides.)
# Why it matters: evaluation in batches (of generated answers) and serving give all but the longest prompt an answer to a text that begins
#   with padding; scores change with the batch size. Batches of one, or of equal lengths, are right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import AutoConfig, AutoModelForCausalLM

common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, pad_token_id=0, bos_token_id=1, eos_token_id=2)
attention = dict(common, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64)
models = {
    "xlstm": dict(common, hidden_size=128, num_heads=2),
    "recurrent_gemma": dict(attention, block_types=["recurrent", "attention"], lru_width=32),
    "rwkv": dict(common, attention_hidden_size=32),
    "mamba": dict(common, state_size=8),
    "mamba2": dict(common, num_heads=8, head_dim=8, state_size=8, n_groups=2),
}
seen = {}
for kind, settings in models.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    given = dict(max_new_tokens=24, do_sample=False, eos_token_id=None)
    apart = other = 0
    alone = []
    for seed in range(4):
        torch.manual_seed(seed)
        short, long = torch.randint(3, 64, (1, 9)), torch.randint(3, 64, (1, 20))
        padded = torch.cat([torch.zeros(1, 11, dtype=torch.long), short], 1)
        mask = (padded > 0).long()
        with torch.no_grad():
            logits = model(padded, attention_mask=mask).logits[:, -1]
            apart = max(apart, (logits - model(short).logits[:, -1]).abs().max().item())
            other = max(other, (logits - model(padded.masked_fill(padded == 0, 5), attention_mask=mask).logits[:, -1]).abs().max().item())
        batch = model.generate(torch.cat([padded, long]), attention_mask=torch.cat([mask, torch.ones_like(long)]), **given)[:, 20:]
        alone.append([torch.equal(row, model.generate(prompt, **given)[0, prompt.shape[1]:]) for row, prompt in zip(batch, (short, long))])
    same = [sum(column) for column in zip(*alone)]
    seen[kind] = apart, other, same
    print(f"{kind:16} logits behind 11 tokens of masked padding {apart:.2g} from those without, {other:.2g} from those behind another token; texts as alone, of 4: padded {same[0]}, unpadded {same[1]}")
ignored = all(apart > 1 and other > 1 and same[0] == 0 for apart, other, same in (seen[kind] for kind in ("xlstm", "recurrent_gemma", "rwkv")))
used = all(apart < 1e-4 and other < 1e-4 and same == [4, 4] for apart, other, same in (seen[kind] for kind in ("mamba", "mamba2")))
sys.exit(not (ignored and used and seen["xlstm"][2][1] == seen["recurrent_gemma"][2][1] == 4))
PY
