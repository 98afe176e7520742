#!/usr/bin/env bash
# MiniMax in bfloat16: heads of slow decay never forget while decoding, and logits drift from those of one forward.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: a step of lightning attention multiplies its state by exp(-slope), in the dtype of the weights. In bfloat16 every
#   factor above 0.998 is 1.0, so that the state only grows; it is rounded to 8 bits at each token, too. A prefill multiplies by
#   exp(-256 slope) once a block, where the rounding does not matter. Mamba, Mamba-2 and gated delta rule layers keep
#   states and decays in float32.
# Seen: with the 64 heads and 80 layers of MiniMax-Text-01 (each eighth one softmax), 406 of 4,480 heads have a factor of
#   exactly 1.0. Relative error of a small model's logits over 64 tokens from position 0 / 512 / 1024 / 1984, against float32 with the same
#   weights: one forward 0.0049 / 0.0043 / 0.0045 / 0.0047, token by token 0.0050 / 0.0122 / 0.0156 / 0.0175.
# Why it matters: long generations of the bfloat16 checkpoint are another function than the model's forward over the same text;
#   a port that decodes in float32 disagrees with generate(), and is the right one of the two.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - "$work/model" <<'PY'
import sys, torch
from transformers import MiniMaxConfig, MiniMaxForCausalLM
from transformers.models.minimax.modeling_minimax import MiniMaxLightningAttention

torch.set_num_threads(1)
published = MiniMaxConfig(num_hidden_layers=80, num_attention_heads=64, num_key_value_heads=8, hidden_size=64, head_dim=8)
layers = [i for i in range(80) if (i + 1) % 8]
factors = [torch.exp(-MiniMaxLightningAttention(published, i).slope_rate.bfloat16()) for i in layers]
stuck = sum(int((factor == 1).sum()) for factor in factors)
print(f"heads that never forget in bfloat16, of {64 * len(layers)} (64 heads, 80 layers): {stuck}")

torch.manual_seed(0)
MiniMaxForCausalLM(MiniMaxConfig(
    vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
    head_dim=8, num_local_experts=2, num_experts_per_tok=1, layer_types=["linear_attention", "full_attention"] * 2,
)).bfloat16().save_pretrained(sys.argv[1])
model = MiniMaxForCausalLM.from_pretrained(sys.argv[1]).eval()
exact = MiniMaxForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
length = 2048
torch.manual_seed(2)
ids = torch.randint(1, 64, (1, length))

def by_token(model):
    cache, logits = None, []
    for i in range(length):
        out = model(ids[:, i:i + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        logits.append(out.logits.float())
    return torch.cat(logits, 1)

with torch.no_grad():
    right = exact(ids).logits
    runs = {"float32, token by token": by_token(exact), "bfloat16, one forward": model(ids).logits.float(),
            "bfloat16, token by token": by_token(model)}
places = (0, 512, 1024, 1984)
errors = {}
for name, logits in runs.items():
    errors[name] = [((logits - right)[:, p:p + 64].pow(2).mean().sqrt() / right.std()).item() for p in places]
    print(f"{name:25}", " ".join(f"{e:.4f}" for e in errors[name]))
f32, whole, steps = errors.values()
sys.exit(not (stuck > 0 and max(f32) < 1e-3 and steps[0] < 1.3 * whole[0] and steps[2] > 1.8 * whole[2]))
PY
