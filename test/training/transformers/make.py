"""What transformers (5.18, torch 2.13, CPU, f32, eager) and peft make of a model and adapters that were trained here.

python make.py FOLDER reads model/, adapters/ and table/ in it; writes back/, the model as transformers saves it, peft/, adapters
of other kinds as peft saves them, experts/, a mixture and adapters of all of it, and expected.json: ids, logits of the model, logits of
the model with each of the adapters, those of the mixture with and without, and those of jamba/, whose adapters of experts were trained here.
"""
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoConfig, AutoModelForCausalLM

folder = Path(sys.argv[1])
ids = torch.tensor([[(5 * t * t + 3 * t) % 40 for t in range(19)]])


def load(path=folder / "model"):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager").eval()
    model.set_experts_implementation("eager")
    return model


def logits_of(model):
    with torch.no_grad():
        return [round(float(x), 7) for x in model(ids, use_cache=False).logits.flatten()]


def adapted(path, base=folder / "model"):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", ".*missing adapter keys.*")
        return logits_of(PeftModel.from_pretrained(load(base), path).eval())


def save_adapters(path, base, safe=True, **kind):
    torch.manual_seed(5)
    model = get_peft_model(load(base), LoraConfig(r=2, lora_alpha=3, task_type="CAUSAL_LM", **kind))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.2 * torch.randn_like(parameter))
    model.base_model.peft_config["default"].base_model_name_or_path = "model"
    model.save_pretrained(path, safe_serialization=safe)
    (path / "README.md").unlink()


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
    save_adapters(folder / "peft" / name, folder / "model", safe=name != "pickled", **kind)
    expected["adapted"][f"peft/{name}"] = adapted(folder / "peft" / name)

torch.manual_seed(7)
sizes = dict(vocab_size=40, hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
mixture = AutoModelForCausalLM.from_config(AutoConfig.for_model("mixtral", num_local_experts=3, num_experts_per_tok=2, **sizes))
with torch.no_grad():
    for parameter in mixture.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
path = folder / "experts" / "model"
mixture.save_pretrained(path)
(path / "generation_config.json").unlink()
save_adapters(folder / "experts" / "adapters", path, target_modules="all-linear")
expected["experts"] = {"logits": logits_of(load(path)), "adapted": adapted(folder / "experts" / "adapters", path)}
path = folder / "jamba" / "model"
expected["jamba"] = {"logits": logits_of(load(path)), "adapted": {name: adapted(folder / "jamba" / name, path) for name in ("all", "one")}}
(folder / "expected.json").write_text(json.dumps(expected) + "\n")
