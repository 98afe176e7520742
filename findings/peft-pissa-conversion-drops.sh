#!/usr/bin/env bash
# PiSSA and OLoRA: the adapter that save_pretrained() converts for the original weights lacks DoRA's magnitudes, without a word, and the trained head (modules_to_save), without which it cannot be loaded.
#
# Versions: peft 0.21.0, torch 2.13.0 (CPU).
# Behaviour: both begin with a part of the base weight in the adapter; path_initial_model_for_weight_conversion writes the difference between trained and first products, for use on the untouched base. It writes lora_A and lora_B and
#   nothing else that was trained. Magnitudes start anew from the norms of the base.
# Seen, PiSSA and OLoRA alike: without either the converted adapter is 2e-7 of the trained change away from the trained model; with use_dora 0.10, a loss of 0.805 for 0.794; with modules_to_save the file lacks weight and bias of
#   the head, and from_pretrained() raises KeyError. Saved as it is: 0.
# Why it matters: conversion is how such adapters are shared, as the base need not be changed for them. With DoRA another model is shared than the one that was evaluated; a trained head is gone, which shows when the training's own files are no longer
#   there. Saved without conversion, all is there.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file

def base():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(32, 32, bias=False), torch.nn.Tanh(), torch.nn.Linear(32, 16))

x, y = torch.randn(64, 32, generator=torch.Generator().manual_seed(1)), torch.randn(64, 16, generator=torch.Generator().manual_seed(2))
holds = True
for start in ("pissa", "olora"):
    for name, given in (("weights alone", {}), ("a head besides", {"modules_to_save": ["2"]}), ("use_dora", {"use_dora": True})):
        folder = f"{sys.argv[1]}/{start}-{name.replace(' ', '-')}"
        torch.manual_seed(3)
        model = get_peft_model(base(), LoraConfig(target_modules=["0"], r=8, lora_alpha=8, init_lora_weights=start, **given))
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(f"{folder}/first")
        model.peft_config["default"].init_lora_weights = start
        optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.2)
        for _ in range(200):
            optimizer.zero_grad()
            torch.nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        with torch.no_grad():
            model.eval()
            trained = model(x)
            model.save_pretrained(f"{folder}/plain")
            model.save_pretrained(f"{folder}/converted", path_initial_model_for_weight_conversion=f"{folder}/first")
            moved = (trained - base()(x)).norm()
            plain = PeftModel.from_pretrained(base(), f"{folder}/plain").eval()(x)
            try:
                converted = PeftModel.from_pretrained(base(), f"{folder}/converted").eval()(x)
            except KeyError as error:
                converted = None
                print(f"  the converted adapter cannot be loaded: KeyError {error}")
        off = [float((other - trained).norm() / moved) for other in (plain, converted) if other is not None]
        losses = [float(torch.nn.functional.mse_loss(output, y)) for output in (base()(x), trained, converted) if output is not None]
        keys = [{key.removeprefix("base_model.model.") for key in load_file(f"{folder}/{kind}/adapter_model.safetensors")} for kind in ("plain", "converted")]
        lost = sorted(keys[0] - keys[1])
        print(f"{start}, {name}: off the trained model, as a share of what was trained: saved as it is and converted {[f'{value:.2g}' for value in off]}; loss before, trained, converted {[f'{value:.3f}' for value in losses]}; not in the file: {', '.join(lost) or 'nothing'}")
        expected = {"weights alone": [], "a head besides": ["2.bias", "2.weight"], "use_dora": ["0.lora_magnitude_vector"]}[name]
        holds &= off[0] < 1e-4 and lost == expected and (converted is None) == (name == "a head besides")
        if converted is not None:
            holds &= off[1] > 0.05 if expected else off[1] < 1e-4
sys.exit(not holds)
PY
