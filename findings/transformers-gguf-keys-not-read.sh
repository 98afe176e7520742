#!/usr/bin/env bash
# A config that transformers makes of a GGUF file has the class's defaults where the file says otherwise: StarCoder2's rotations among them.
#
# Versions: transformers 5.18.0, gguf 0.19.0, torch 2.13.0 (CPU).
# Behaviour: each architecture has a table of keys, and what is not in it keeps the default of the config class. Nothing is logged at the usual levels.
# Seen, what the file says and what the config has: starcoder2 and stablelm rope.freq_base 100000 and rope_theta 10000; qwen3 attention.key_length 32 and head_dim 128; gemma2 softcaps
#   of 20 and 10, and 50 and 30; phi3 rope.dimension_count 8 of 16 and partial_rotary_factor 1, sliding_window 100 and none; stablelm rope.dimension_count 8 of 16 and 0.25; nemotron 4 of 16 and
#   0.5. rope.freq_base is read for llama, qwen2, qwen3, phi3 and nemotron, gemma2's key_length and window too.
# Why it matters: a checkpoint that has the defaults loads well, and one of the same family that has not (another size, a longer context, a fine-tune) is
#   another model. Whoever loads a file so has to compare the config with the file's keys.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 transformers==5.18.0 gguf==0.19.0 numpy

"$python" - "$work" <<'PY'
import sys
import gguf, numpy as np
from transformers import AutoConfig

def read(architecture, **told):
    writer = gguf.GGUFWriter(f"{sys.argv[1]}/{architecture}.gguf", architecture)
    writer.add_name("small")
    writer.add_context_length(8192)
    writer.add_embedding_length(64)
    writer.add_block_count(4)
    writer.add_feed_forward_length(128)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_layer_norm_eps(1e-6)
    for name, value in told.items():
        getattr(writer, f"add_{name}")(value)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([f"t{token}" for token in range(64)])
    writer.add_token_types([1] * 64)
    writer.add_token_merges([])
    writer.add_tensor("token_embd.weight", np.zeros((64, 64), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    config = AutoConfig.from_pretrained(sys.argv[1], gguf_file=f"{architecture}.gguf")
    rope = config.rope_parameters
    return {"context": config.max_position_embeddings, "theta": rope["rope_theta"], "share": rope.get("partial_rotary_factor"), "head_dim": config.head_dim if hasattr(config, "head_dim") else None,
            "window": getattr(config, "sliding_window", None), "caps": (getattr(config, "attn_logit_softcapping", None), getattr(config, "final_logit_softcapping", None))}

base = dict(rope_freq_base=1e5)
files = {
    "starcoder2": (base, {"theta": 10000}),
    "qwen3": (dict(base, key_length=32), {"theta": 1e5, "head_dim": 128}),
    "gemma2": (dict(key_length=32, sliding_window=512, attn_logit_softcapping=20.0, final_logit_softcapping=10.0), {"head_dim": 32, "window": 512, "caps": (50, 30)}),
    "phi3": (dict(base, rope_dimension_count=8, sliding_window=100), {"theta": 1e5, "share": 1, "window": None}),
    "stablelm": (dict(base, rope_dimension_count=8), {"theta": 10000, "share": 0.25}),
    "nemotron": (dict(base, rope_dimension_count=4), {"theta": 1e5, "share": 0.5}),
    "qwen2": (base, {"theta": 1e5}),
    "llama": (dict(base, rope_dimension_count=16), {"theta": 1e5, "head_dim": 16}),
}
holds = True
for architecture, (told, expected) in files.items():
    seen = read(architecture, **told)
    print(f"{architecture:11} file: {told}; config: {({key: seen[key] for key in expected})}")
    holds &= seen["context"] == 8192 and all(seen[key] == value for key, value in expected.items())
sys.exit(not holds)
PY
