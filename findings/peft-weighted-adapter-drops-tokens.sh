#!/usr/bin/env bash
# add_weighted_adapter() leaves out what a LoRA adapter has learned beside its two matrices: the biases of lora_bias and the tokens of trainable_token_indices, without a word.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: "linear", "cat" and "svd" combine lora_A and lora_B. The new adapter's biases stay zero, and its trained tokens those of the base model; two adapters with modules_to_save raise an error instead.
# Seen, one adapter with weight 1.0 (which should be the same adapter), logits, in parts of the adapter's own change: plain LoRA 4e-7 apart; with trained biases 1.0, with two trained tokens 0.8, by all three ways; what is left is, to 3e-7, the adapter
#   without them.
# Why it matters: new tokens (a chat format's marks, a tool's) trained with the adapter are untrained in the merged adapter, so that it does not know where a turn ends; tested on plain text it seems right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - <<'PY'
import sys, torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, attention_bias=True, pad_token_id=0, bos_token_id=1, eos_token_id=2)
tokens = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(0))
tokens[:, 3] = 5
holds = True
for name, settings, extra in (("LoRA", {}, None), ("lora_bias", {"lora_bias": True}, "lora_B.default.bias"), ("trainable_token_indices", {"trainable_token_indices": {"embed_tokens": [5, 6]}}, "trainable_tokens_delta.default")):
    torch.manual_seed(0)
    model = get_peft_model(LlamaForCausalLM(config).eval(), LoraConfig(r=4, target_modules=["q_proj", "v_proj"], **settings)).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        logits = lambda: model(tokens).logits
        base = logits()
        for key, weight in model.named_parameters():
            if "lora_B.default.weight" in key:
                weight.normal_(std=0.2)
        without = logits()
        for key, weight in model.named_parameters():
            if extra and extra in key:
                weight.normal_(std=0.2)
        whole = logits()
        change = (whole - base).abs().max()
        for kind in ("linear", "cat", "svd"):
            model.add_weighted_adapter(["default"], [1.0], kind, combination_type=kind)
            model.set_adapter(kind)
            combined = logits()
            model.set_adapter("default")
            off, left = (float((combined - other).abs().max() / change) for other in (whole, without))
            print(f"{name:24} {kind:6} {off:.1g} of the adapter's change apart, {left:.1g} from the adapter without {'them' if extra else 'anything'}")
            holds &= left < 1e-4 and (off > 0.1 if extra else off < 1e-4)
sys.exit(not holds)
PY
