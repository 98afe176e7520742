#!/usr/bin/env bash
# hotswap_adapter() of a LoRA adapter with rank_pattern or alpha_pattern: the weights are the new adapter's, the scaling is that of layers without a pattern, so that the model is neither.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the patterns are looked up with the name of the weight ("…q_proj.lora_A.default.weight") in place of the layer's; they are matched to a name's end, so that none is ever found, and alpha / rank of the whole config is taken instead. PeftModel.from_pretrained() and
#   load_adapter() of the same folder look with the layer's name. Nothing is raised.
# Seen, a small Llama with adapters of rank 8 and alpha 16 on q_proj and v_proj, logits after a hot swap against those by from_pretrained(), in parts of the adapter's own change: without patterns the same; both adapters with rank_pattern v_proj 2
#   0.3 apart (scaling 2, right is 8), with alpha_pattern v_proj 64 0.2 (2, right is 8). An adapter that is swapped for itself is 0.6 and 0.2 from what it was.
# Why it matters: hot swapping is for servers that change adapters without compiling again; such an adapter answers there otherwise than wherever it was tested, by some layers weaker or stronger. PiSSA- or search-made adapters and LoRA files
#   converted from other formats have patterns as a rule.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils.hotswap import hotswap_adapter
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
tokens = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(0))

def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()

def saved(name, seed, **patterns):
    model = base()
    torch.manual_seed(seed)
    adapted = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"], init_lora_weights=False, **patterns))
    adapted.save_pretrained(f"{sys.argv[1]}/{name}")
    return f"{sys.argv[1]}/{name}"

logits = lambda model: model.eval()(tokens).logits
scaling = lambda model, layer: float(model.base_model.model.model.layers[0].self_attn.get_submodule(layer).scaling["default"])
holds = True
with torch.no_grad():
    unadapted = logits(base())
    for name, layer, patterns in (("no patterns", "q_proj", {}), ("rank_pattern", "v_proj", {"rank_pattern": {"v_proj": 2}}), ("alpha_pattern", "v_proj", {"alpha_pattern": {"v_proj": 64}})):
        one, two = saved(f"{name} 1", 1, **patterns), saved(f"{name} 2", 2, **patterns)
        for what, target in (("the other", two), ("the same", one)):
            loaded, swapped = PeftModel.from_pretrained(base(), target), PeftModel.from_pretrained(base(), one)
            hotswap_adapter(swapped, target, adapter_name="default")
            off = float((logits(swapped) - logits(loaded)).abs().max() / (logits(loaded) - unadapted).abs().max())
            scalings = scaling(loaded, layer), scaling(swapped, layer)
            print(f"{name:13} {what:9} scaling of {layer} {scalings[0]:g}, hot-swapped {scalings[1]:g}; logits {off:.1g} of the adapter's change apart")
            holds &= (off > 0.1) == (scalings[0] != scalings[1]) == bool(patterns) and (bool(patterns) or off < 1e-5)
sys.exit(not holds)
PY
