#!/usr/bin/env bash
# eval_loss of Trainer is another number with another batch size or order of the same data: it is a mean of the batches' means, while training counts tokens.
#
# Versions: transformers 5.18.0, accelerate 1.15.0, torch 2.13.0 (CPU).
# Behaviour: each batch's loss is a mean over its targets; evaluate() weights it by the number of rows. A row with two targets counts as much as one with fourteen if they are in different batches. Training divides by the targets of all
#   batches of a step (num_items_in_batch).
# Seen, rows of 2 easy and 14 hard targets: the loss per target is 4.925 by hand (perplexity 138); eval_loss is 3.410 (30) in batches of 1, 4.925 in batches of 2 of one each or of 8, and sorted by length 3.410 in batches of 2. Rows
#   of 15 targets: the same in each.
# Why it matters: exp(eval_loss) is reported as perplexity, and picks the best checkpoint: numbers of two machines, two batch sizes or with group_by_length are not comparable, by more than what is being compared. Rows of equal length
#   with a target everywhere are right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 accelerate==1.15.0 numpy

"$python" - "$work" <<'PY' 2>/dev/null
import math, sys, torch
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4, pad_token_id=0)).eval()
for weight in model.parameters():
    if weight.ndim > 1:
        weight.data.normal_(std=0.3)

def rows(targets):
    torch.manual_seed(1)
    made = []
    for count in targets:
        ids = torch.randint(3, 64, (16,))
        # Short answers are easy here: the model's own choices.
        with torch.no_grad():
            for t in range(16 - count, 16) if count == 2 else ():
                ids[t] = model(ids[None, :t]).logits[0, -1].argmax()
        made.append({"input_ids": ids, "labels": torch.where(torch.arange(16) >= 16 - count, ids, -100)})
    return made

def by_hand(data):
    total = count = 0
    for row in data:
        with torch.no_grad():
            logits = model(row["input_ids"][None]).logits[0, :-1]
        total += float(torch.nn.functional.cross_entropy(logits, row["labels"][1:], ignore_index=-100, reduction="sum"))
        count += int((row["labels"][1:] != -100).sum())
    return total / count

def evaluated(data, batch):
    arguments = TrainingArguments(output_dir=sys.argv[1], per_device_eval_batch_size=batch, report_to=[], use_cpu=True, disable_tqdm=True)
    trainer = Trainer(model=model, args=arguments, eval_dataset=data)
    trainer.log = lambda *_: None
    return trainer.evaluate()["eval_loss"]

mixed = rows([2, 14] * 4)
grouped = sorted(mixed, key=lambda row: int((row["labels"] != -100).sum()))
even = rows([15] * 8)
right = by_hand(mixed)
seen = {(name, batch): evaluated(data, batch) for name, data in (("mixed", mixed), ("by length", grouped), ("even", even)) for batch in (1, 2, 8)}
print(f"rows of 2 and 14 targets, loss per target by hand {right:.3f}, perplexity {math.exp(right):.0f}")
for (name, batch), loss in seen.items():
    print(f"  {name:9} batches of {batch}: eval_loss {loss:.3f}, perplexity {math.exp(loss):.0f}")
ok = lambda name, batch: abs(seen[name, batch] - (by_hand(even) if name == "even" else right)) < 1e-3
sys.exit(not (ok("mixed", 2) and ok("mixed", 8) and ok("by length", 8) and all(ok("even", batch) for batch in (1, 2, 8)) and right - seen["mixed", 1] > 0.5 and right - seen["by length", 2] > 0.5))
PY
