#!/usr/bin/env bash
# LN tuning (peft): save_pretrained() after merge_adapter() writes the norms of the base model as the adapter: what was trained is not in the file.
#
# Versions: peft 0.21.0, transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: merging swaps the trained norm with the base model's, so that the adapter's place holds the untrained one, and saving takes what stands there. Other methods add to the base weight and keep the adapter's own. unmerge_adapter() swaps
#   them back; nothing is raised or logged.
# Seen, logits of the file that was saved, in parts of the trained change: saved as it is 0 apart from the trained model; after merge_adapter() 1.0, and 0 from the base model; after unmerge_adapter() 0 again. LoRA and IA3, saved while merged: 0.
# Why it matters: merging for a fast evaluation and saving the checkpoint right after is the order of many loops; the adapter that is published is the base model, and the run is lost if only such files were kept.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 peft==0.21.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from peft import IA3Config, LNTuningConfig, LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

config = LlamaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
tokens = torch.randint(3, 64, (4, 12), generator=torch.Generator().manual_seed(0))

def base():
    torch.manual_seed(0)
    return LlamaForCausalLM(config).eval()

holds = True
for name, method in (("LN tuning", LNTuningConfig(target_modules=["input_layernorm", "post_attention_layernorm", "norm"])), ("LoRA", LoraConfig(target_modules=["q_proj", "v_proj"])),
                     ("IA3", IA3Config(target_modules=["k_proj", "v_proj"], feedforward_modules=[]))):
    model = get_peft_model(base(), method)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=1.0)
    for _ in range(10):
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = lambda of: of.eval()(tokens).logits
        trained, untrained = logits(model), logits(base())
        change = (trained - untrained).abs().max()
        apart = []
        for step in ("", "merge_adapter", "unmerge_adapter"):
            if step:
                getattr(model, step)()
            folder = f"{sys.argv[1]}/{name}{step}"
            model.save_pretrained(folder)
            read = logits(PeftModel.from_pretrained(base(), folder))
            apart.append([float((read - other).abs().max() / change) for other in (trained, untrained)])
    print(f"{name:9} file's logits from the trained / the base model's: saved as it is {apart[0][0]:.1g} / {apart[0][1]:.1g}, merged {apart[1][0]:.1g} / {apart[1][1]:.1g}, unmerged {apart[2][0]:.1g} / {apart[2][1]:.1g}")
    holds &= apart[0][0] < 1e-3 and apart[2][0] < 1e-3 and ((apart[1][0] > 0.9 and apart[1][1] < 1e-3) if name == "LN tuning" else apart[1][0] < 1e-3)
sys.exit(not holds)
PY
