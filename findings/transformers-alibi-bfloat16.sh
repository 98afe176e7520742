#!/usr/bin/env bash
# ALiBi in bfloat16: Bloom and Falcon number the keys from the start of the text, in bfloat16, so that the newest tokens, of all, share a place; MPT counts back from the end and is right.
#
# Versions: transformers 5.18.0, torch 2.13.0 (CPU).
# Behaviour: the bias is slope times position. Counted from the first key, softmax takes the common part out again, but the numbers are rounded to 8 bits before that: at position 2,000 in steps of 8 tokens, or of slope times 8. Falcon rounds slopes too.
# Seen, relative error of logits against the same bfloat16 weights in float32, 64 tokens from position 0 / 256 / 512 / 1024 / 1984, random weights: bloom 0.012 / 0.075 / 0.13 / 0.27 / 0.28; falcon with alibi 0.007 / 0.009 / 0.013 / 0.020 / 0.034;
#   mpt 0.012 / 0.014 / 0.013 / 0.014 / 0.014; llama (RoPE) 0.030 / 0.032 / 0.035 / 0.028 / 0.030. Bloom's 64 tokens have 64 / 33 / 17 / 9 / 9 places.
# Why it matters: ALiBi is there to favour what is near, and far into a text it is the near that is blurred. Perplexity over short windows does not show it, and the type is that of the checkpoints, which from_pretrained takes by default.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 numpy

"$python" - "$work" <<'PY'
import copy, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.models.bloom import modeling_bloom

torch.set_num_threads(1)
common = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
settings = {
    "bloom": dict(common, hidden_size=32, n_layer=4, n_head=4),
    "falcon": dict(common, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, alibi=True, new_decoder_architecture=False, multi_query=True),
    "mpt": dict(common, d_model=32, n_layers=4, n_heads=4, max_seq_len=2048),
    "llama": dict(common, hidden_size=32, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, intermediate_size=64, max_position_embeddings=2048),
}
places = (0, 256, 512, 1024, 1984)
ids = torch.randint(3, 64, (1, 2048), generator=torch.Generator().manual_seed(0))

def errors(narrow, wide):
    with torch.no_grad():
        got, right = narrow(ids).logits.float(), wide(ids).logits
    parts = [slice(place, place + 64) for place in places]
    return [float((got[:, part] - right[:, part]).norm() / right[:, part].norm()) for part in parts]

seen = {}
for kind, given in settings.items():
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **given))
    torch.manual_seed(1)
    for weight in model.parameters():
        if weight.ndim >= 2:
            weight.data.normal_(std=0.3)
    model.save_pretrained(sys.argv[1] + "/" + kind)
    narrow = AutoModelForCausalLM.from_pretrained(sys.argv[1] + "/" + kind, dtype=torch.bfloat16).eval()
    wide = copy.deepcopy(narrow).float()
    seen[kind] = errors(narrow, wide)
for kind, row in seen.items():
    print(f"{kind:8}", " / ".join(f"{error:.3f}" for error in row))
bias = modeling_bloom.build_alibi_tensor(torch.ones(1, 2048), 4, torch.bfloat16)[0, 0]
distinct = [bias[place : place + 64].unique().numel() for place in places]
print("Bloom's places of 64 tokens:", distinct)
grows = {kind: row[-1] / row[0] for kind, row in seen.items()}
sys.exit(not (grows["bloom"] > 8 and grows["falcon"] > 4 and all(grows[kind] < 2 for kind in ("mpt", "llama")) and distinct[0] == 64 and distinct[-1] <= 9))
PY
