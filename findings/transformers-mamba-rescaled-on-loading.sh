#!/usr/bin/env bash
# Mamba with rescale_prenorm_residual: from_pretrained() divides the out_proj weights that it has just loaded, at every load once more.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: mamba, mamba2 and falcon_mamba divide out_proj by sqrt(num_hidden_layers) as a way to initialise. The step runs after loading too, on weights that are
#   not missing and that nothing initialised.
# Seen with 4 layers of random weights: from_pretrained() of what save_pretrained() wrote has out_proj weights of 0.5 times those in the file; logits
#   are 3.0 to 6.1 apart, and 7.7 to 14 after four rounds. load_state_dict() of the same file, and rescale_prenorm_residual False (the default): 0.
# Why it matters: whoever turns this on to train from scratch resumes from another model than was saved, and publishes weights that
#   load as another model, and as yet another one once they were loaded and saved.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 safetensors==0.8.0 numpy

"$python" - "$work" <<'PY'
import sys, torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

ids = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(2))
common = dict(vocab_size=64, hidden_size=32, num_hidden_layers=4, state_size=8, pad_token_id=0, bos_token_id=1, eos_token_id=2)
models = {"mamba": common, "falcon_mamba": common, "mamba2": dict(common, num_heads=8, head_dim=8, n_groups=2)}

def rounds(kind, settings, rescale):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings, rescale_prenorm_residual=rescale)).eval()
    torch.manual_seed(1)
    for name, weight in model.named_parameters():
        if weight.ndim >= 2 and "A_log" not in name:
            weight.data.normal_(std=0.3)
    seen, right = [], model(ids).logits
    for _ in range(4):
        model.save_pretrained(sys.argv[1])
        stored = load_file(f"{sys.argv[1]}/model.safetensors")
        name = "backbone.layers.2.mixer.out_proj.weight"
        copy = AutoModelForCausalLM.from_config(model.config).eval()
        copy.load_state_dict(stored, strict=False)
        exact = (copy(ids).logits - model(ids).logits).abs().max().item()
        model = AutoModelForCausalLM.from_pretrained(sys.argv[1]).eval()
        seen.append((model(ids).logits - right).abs().max().item())
        ratio = (model.get_parameter(name) / stored[name]).mean().item()
    return seen, ratio, exact

holds = True
with torch.no_grad():
    for kind, settings in models.items():
        (seen, ratio, exact), (usual, _, _) = rounds(kind, settings, True), rounds(kind, settings, False)
        print(f"{kind:13} out_proj {ratio:.3g} of the file's; logits after each round {', '.join(f'{d:.2g}' for d in seen)}; by load_state_dict {exact:.2g}; without the setting {max(usual):.2g}")
        holds &= abs(ratio - 0.5) < 1e-4 and min(seen) > 0.5 and exact == 0 and max(usual) == 0
sys.exit(not holds)
PY
