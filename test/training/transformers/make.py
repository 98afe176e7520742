"""What transformers (5.18, torch 2.13, CPU, f32, eager) and peft make of a model and adapters that were trained here.

python make.py FOLDER reads model/, adapters/ and table/ in it; writes back/, the model as transformers saves it, peft/, adapters
of other kinds as peft saves them, and expected.json: ids, logits of the model, logits of the model with each of the adapters.
"""
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
ids = torch.tensor([[(5 * t * t + 3 * t) % 40 for t in range(19)]])


def load():
    return AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32, attn_implementation="eager").eval()


def logits_of(model):
    with torch.no_grad():
        return [round(float(x), 7) for x in model(ids, use_cache=False).logits.flatten()]


def adapted(path):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*missing adapter keys.*")
        return logits_of(PeftModel.from_pretrained(load(), path).eval())


model = load()
model.save_pretrained(folder / "back")
expected = {"ids": ids[0].tolist(), "logits": logits_of(model), "adapted": {}}
for name in ("adapters", "table"):
    expected["adapted"][name] = adapted(folder / name)

kinds = {
    "tied": dict(target_modules=["embed_tokens", "k_proj"], ensure_weight_tying=True),
    "patterns": dict(
        target_modules=["in_proj", "q_proj", "v_proj"],
        use_rslora=True,
        rank_pattern={"q_proj": 3},
        alpha_pattern={r"model\.layers\.\d+\.self_attn\.(k|v)_proj": 7, "in_proj": 1},
    ),
    "whole": dict(target_modules=["up_proj"], modules_to_save=["final_layernorm", "o_proj"], bias="all"),
    "pickled": dict(target_modules="all-linear", exclude_modules=["lm_head", "out_proj"]),
}
for name, kind in kinds.items():
    torch.manual_seed(5)
    model = get_peft_model(load(), LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", **kind))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.base_model.peft_config["default"].base_model_name_or_path = "model"
    path = folder / "peft" / name
    model.save_pretrained(path, safe_serialization=name != "pickled")
    (path / "README.md").unlink()
    expected["adapted"][f"peft/{name}"] = adapted(path)
(folder / "expected.json").write_text(json.dumps(expected) + "\n")
