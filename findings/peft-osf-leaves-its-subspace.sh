#!/usr/bin/env bash
# OSF (peft): AdamW leaves the subspace that the method promises to keep to, and merging twice adds the change twice.
#
# Versions: peft 0.21.0, torch 2.13.0 (CPU).
# Behaviour: Orthogonal Subspace Fine-tuning is to keep what a model knows: the largest singular directions of each weight are frozen, and a hook takes them out of the gradient of the others.
#   An optimizer that scales each element by itself (Adam, Adafactor, sign) makes something else of a projected gradient, and nothing projects the step. merge() does not ask whether it has been done already,
#   as the other methods do.
# Seen, 50 steps, 16 of 32 directions protected, share of the weight's change (by norm) that writes into them and that reads from them: SGD 4e-7 and 4e-7, AdamW 0.24 and 0.21, Adafactor 0.15 and 0.09. After
#   merge_adapter() and merge_and_unload() outputs are 0.98 of the trained change away from the adapter's, with LoRA 2e-7; no warning.
# Why it matters: the directions that were to be protected are changed by the optimizer that everybody uses (SGD alone is right); the second of two merges, as of merge_adapter() for an evaluation and
#   merge_and_unload() at the end, ships another model.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, OSFConfig, get_peft_model

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(32, 32, bias=False)
        self.second = torch.nn.Linear(32, 8, bias=False)
    def forward(self, x):
        return self.second(torch.nn.functional.silu(self.first(x)))

def adapted(config):
    torch.manual_seed(0)
    return get_peft_model(Two(), config)

x, y = torch.randn(64, 32, generator=torch.Generator().manual_seed(1)), torch.randn(64, 8, generator=torch.Generator().manual_seed(2))
def train(model, optimizer, rate):
    optimizer = optimizer([p for p in model.parameters() if p.requires_grad], lr=rate)
    for _ in range(50):
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    return model

osf = OSFConfig(target_modules=["first"], effective_rank=16)
into, along = {}, {}
for name, optimizer, rate in (("SGD", torch.optim.SGD, 0.5), ("AdamW", torch.optim.AdamW, 0.01), ("Adafactor", torch.optim.Adafactor, 0.05)):
    model = adapted(osf)
    layer = model.base_model.model.first
    left, _, right = torch.linalg.svd(layer.base_layer.weight.detach())
    train(model, optimizer, rate)
    with torch.no_grad():
        change = layer.get_delta_weight("default")
    into[name] = float((left[:, :16].T @ change).norm() / change.norm())
    along[name] = float((right[:16] @ change.T).norm() / change.norm())
    print(f"{name:9} after 50 steps, share of the change that writes into the 16 protected directions {into[name]:.2g}, that reads from them {along[name]:.2g}")

off = {}
for name, config in (("OSF", osf), ("LoRA", LoraConfig(target_modules=["first"], r=4))):
    model = train(adapted(config), torch.optim.SGD, 0.5)
    with torch.no_grad():
        trained, base = model(x), adapted(config)(x)
        model.merge_adapter()
        once = model(x)
        twice = model.merge_and_unload()(x)
    scale = (trained - base).norm()
    off[name] = [float((value - trained).norm() / scale) for value in (once, twice)]
    print(f"{name:4} outputs after merge_adapter() {off[name][0]:.1g}, after merge_and_unload() as well {off[name][1]:.2g} of the trained change away from the adapter's")

sys.exit(not (into["SGD"] < 1e-4 and along["SGD"] < 1e-4 and min(into["AdamW"], along["AdamW"]) > 0.1
              and min(into["Adafactor"], along["Adafactor"]) > 0.03 and off["OSF"][0] < 1e-3 and off["OSF"][1] > 0.5 and max(off["LoRA"]) < 1e-3))
PY
