"""Writes transformers.json: what every configuration class of transformers 5.18 that a family here answers to writes in full.

python make.py MODEL_TYPE ...   (supportedModels() of the package; those that transformers lacks are left out)
Every key stands at its default; what belongs to images and sounds is left out. Generation defaults beside them, as older
releases wrote them into config.json. floats: keys at which a class takes a float and no int.
"""
import json
import sys
from pathlib import Path

import transformers
from transformers import GenerationConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

out = {}
floats = set()
for name in sorted(sys.argv[1:]):
    if name in CONFIG_MAPPING:
        cls = CONFIG_MAPPING[name]
        out[name] = json.loads(cls().to_json_string(use_diff=False))
        for part in ("vision_config", "audio_config"):
            out[name].pop(part, None)
        fields = {k: str(v) for c in cls.__mro__[::-1] for k, v in c.__dict__.get("__annotations__", {}).items()}
        floats |= {k for k, v in fields.items() if "float" in v and "int" not in v}
generation = {**GenerationConfig().to_dict(), **GenerationConfig._get_default_generation_params()}
Path(__file__).with_name("transformers.json").write_text(
    json.dumps(dict(transformers=transformers.__version__, generation=generation, configs=out, floats=sorted(floats)), separators=(",", ":")) + "\n")
print(sorted(out))
