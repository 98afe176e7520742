#!/usr/bin/env bash
# add_weighted_adapter() of adapters with use_rslora makes one that is sqrt(rank) times too strong, by "cat", "svd" and "linear"; saved and loaded as well.
#
# Versions: peft 0.21.0, torch 2.13.0 (CPU).
# Behaviour: weights and scalings are multiplied into the new matrices, and the new adapter is to have the scaling 1, by lora_alpha = r. It inherits use_rslora, whose scaling is lora_alpha / sqrt(r): sqrt(r). Nothing is raised.
# Seen, two adapters of rank 8 by "cat", of rank 16 by "cat", of rank 8 by "svd" with rank 16, and one of rank 16 with weight 1 by "linear": 4.000, 5.657, 4.000 and 4.000 times the weighted sum of the products, the same once saved and loaded;
#   without use_rslora 1.000 each.
# Why it matters: rsLoRA is recommended for high ranks, where the factor is largest (8 at rank 64, 16 for two of 128 by "cat"): a merged adapter talks nonsense, and is taken for a conflict of the two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from peft import LoraConfig, PeftModel, get_peft_model

class One(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(64, 64, bias=False)
    def forward(self, x):
        return self.layer(x)

def factor(rank, combination, rslora, names=("a", "b"), **given):
    model = None
    for name in names:
        config = LoraConfig(target_modules=["layer"], r=rank, lora_alpha=rank, use_rslora=rslora)
        if model is None:
            model = get_peft_model(One(), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data.normal_(std=0.1)
    layer = model.base_model.model.layer
    shares = [0.7, 0.3][: len(names)] if len(names) > 1 else [1.0]
    with torch.no_grad():
        wanted = sum(share * layer.scaling[name] * layer.lora_B[name].weight @ layer.lora_A[name].weight for share, name in zip(shares, names))
    model.add_weighted_adapter(list(names), shares, "both", combination_type=combination, **given)
    model.set_adapter("both")
    model.save_pretrained(sys.argv[1] + "/saved", selected_adapters=["both"])
    loaded = PeftModel.from_pretrained(One(), sys.argv[1] + "/saved/both")
    x = torch.eye(64)
    with torch.no_grad():
        base = One()(x)
        changes = [made(x) - base for made in (model.eval(), loaded.eval())]
    ratios = [float((change * wanted.T).sum() / (wanted * wanted).sum()) for change in changes]
    rest = float((changes[0] / ratios[0] - wanted.T).norm() / wanted.norm())
    print(f"rank {rank:2}, {combination:6} of {len(names)}, use_rslora {rslora!s:5}: {ratios[0]:.3f} times the weighted sum ({rest:.0e} beside it), saved and loaded {ratios[1]:.3f}; scaling {layer.scaling['both']:.3f}, rank {layer.r['both']}")
    return ratios, rest, layer.r["both"]

holds = True
for rank, combination, names, given in ((8, "cat", ("a", "b"), {}), (16, "cat", ("a", "b"), {}), (8, "svd", ("a", "b"), {"svd_rank": 16}), (16, "linear", ("a",), {})):
    for rslora in (False, True):
        ratios, rest, made = factor(rank, combination, rslora, names, **given)
        expected = made**0.5 if rslora else 1
        holds &= all(abs(ratio / expected - 1) < 1e-3 for ratio in ratios) and rest < 1e-3
sys.exit(not holds)
PY
