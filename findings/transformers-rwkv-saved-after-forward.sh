#!/usr/bin/env bash
# RWKV (4): a forward divides the model's own weights, and save_pretrained() after it writes the divided ones: a copy is another model.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: in eval mode the first forward divides the output weights of layer i by 2**(i // rescale_every), in place, so that halved activations stay within float16;
#   a forward in train mode multiplies them back. The file and state_dict() get the weights of the moment, and no config says which they are: what is
#   loaded is taken for undivided, and divided again.
# Seen with 8 layers of random weights, rescale_every 2: saved before the first forward, the copy's logits are the same; saved after it, 4.2 apart, and 6.3 and 6.7 after
#   a second and third round. The output weights of layer 6 are 0.125 of what they were. Put into train mode and run before saving, the copy is right (0).
# Why it matters: a checkpoint written after an evaluation, a sample or perplexity on the way differs from one written before,
#   and so do adapters and averages computed on state_dict(). A test that saves at once, or has fewer than rescale_every layers (6), passes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from transformers import RwkvConfig, RwkvForCausalLM

ids = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(2))
def random_model():
    torch.manual_seed(0)
    model = RwkvForCausalLM(RwkvConfig(vocab_size=64, hidden_size=32, attention_hidden_size=32, num_hidden_layers=8, rescale_every=2)).eval()
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.ndim >= 2:
            weight.data.normal_(std=0.3)
    return model

def copied(model):
    model.save_pretrained(sys.argv[1])
    return RwkvForCausalLM.from_pretrained(sys.argv[1]).eval()

def apart(a, b):
    return (a - b).abs().max().item()

with torch.no_grad():
    right = random_model()(ids).logits
    before = apart(copied(random_model())(ids).logits, right)
    model, after = random_model(), []
    output = model.rwkv.blocks[6].attention.output.weight
    undivided = output.clone()
    model(ids)
    ratio = (output / undivided).mean().item()
    for _ in range(3):
        model = copied(model)
        after.append(apart(model(ids).logits, right))
    model = random_model()
    model(ids)
    model.train()(ids)
    trained = apart(copied(model)(ids).logits, right)
print(f"saved before a forward: {before:.2g}; after one, once and again: {', '.join(f'{d:.2g}' for d in after)}; after one in train mode: {trained:.2g}")
print(f"output weights of layer 6 after a forward: {ratio:.4g} of what they were")
sys.exit(not (before == 0 and min(after) > 1 and ratio == 0.125 and trained < 1e-2))
PY
