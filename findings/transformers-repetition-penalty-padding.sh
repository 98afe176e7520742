#!/usr/bin/env bash
# repetition_penalty in a batch: padding in front of a shorter prompt counts as text, so that a model whose pad token is its end of text ends later than alone.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the penalty falls on every id of the row; the attention mask is not asked. Where pad_token is eos_token, as is the habit for models without a pad token, each padded row has "said" the end already.
# Seen, 60 prompts of 6 tokens each in a batch with one of 12, repetition_penalty 1.5, pad_token_id = eos_token_id: 46 of the short ones get another answer than alone, 0 of the long ones; the score of the end at the first token
#   is 1.5 times as far from zero. With another pad token, and without a penalty, 0.
# Why it matters: answers in a batch run on past their end, and only those of the shorter prompts: what a request gets depends on what it is batched with. A pad token of its own is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - <<'PY'
import sys, torch
from transformers import LlamaConfig, LlamaForCausalLM

END, PAD = 2, 3
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, pad_token_id=END, eos_token_id=END, bos_token_id=1)).eval()
for name, weight in model.named_parameters():
    if weight.ndim > 1:
        weight.data.normal_(std=0.3)

def answers(pad, **given):
    others, score = 0, None
    for seed in range(60):
        torch.manual_seed(seed)
        short, long = torch.randint(4, 64, (1, 6)), torch.randint(4, 64, (1, 12))
        batch = torch.cat([torch.cat([torch.full((1, 6), pad), short], 1), long])
        mask = torch.ones_like(batch)
        mask[0, :6] = 0
        given = dict(given, max_new_tokens=24, do_sample=False, pad_token_id=pad, eos_token_id=END, output_scores=True, return_dict_in_generate=True)
        together = model.generate(batch, attention_mask=mask, **given)
        alone = [model.generate(prompt, attention_mask=torch.ones_like(prompt), **given) for prompt in (short, long)]
        ends = []
        for row, own, length in zip(together.sequences, alone, (6, 12)):
            text, single = row[12:].tolist(), own.sequences[0, length:].tolist()
            cut = lambda ids: ids[: ids.index(END) + 1] if END in ids else ids
            ends.append(cut(text) != cut(single))
        others += torch.tensor(ends)
        ratio = float(together.scores[0][0, END] / alone[0].scores[0][0, END])
        score = max(score or 1, ratio, 1 / ratio)
    return others.tolist(), score

model.lm_head.weight.data[END] *= 2
holds = True
for name, pad, given in (("penalty 1.5, pad is end", END, dict(repetition_penalty=1.5)), ("penalty 1.5, pad by itself", PAD, dict(repetition_penalty=1.5)), ("no penalty, pad is end", END, {})):
    others, score = answers(pad, **given)
    print(f"{name:27} answers that differ from those alone, of 60: short prompts {others[0]}, long prompts {others[1]}; score of the end at the first token {score:.2f} times what it is alone")
    wrong = name == "penalty 1.5, pad is end"
    holds &= others[1] == 0 and (others[0] >= 3 if wrong else others[0] == 0) and abs(score - (1.5 if wrong else 1)) < 1e-3
sys.exit(not holds)
PY
