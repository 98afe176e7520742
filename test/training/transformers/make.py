"""What transformers (5.18, torch 2.13, CPU, f32, eager) and peft make of a model and adapters that were trained here.

python make.py FOLDER reads model/ and adapters/ in it; writes back/, the model as transformers saves it, and expected.json:
ids, logits of the model, logits of the model with its adapters.
"""
import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
ids = torch.tensor([[(5 * t * t + 3 * t) % 40 for t in range(19)]])


def load():
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model):
    with torch.no_grad():
        return [round(float(x), 7) for x in model(ids, use_cache=False).logits.flatten()]


model = load()
model.save_pretrained(folder / "back")
expected = {"ids": ids[0].tolist(), "logits": logits_of(model)}
expected["adapted"] = logits_of(PeftModel.from_pretrained(load(), folder / "adapters").eval())
(folder / "expected.json").write_text(json.dumps(expected) + "\n")
