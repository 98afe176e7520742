"""Writes the checkpoints of this folder that are named here: python make.py [name ...]

torch 2.13 (CPU), transformers 5.18; weights drawn from a seed, eager attention, f32. Each folder gets config.json,
model.safetensors and expected.safetensors: input_ids, logits of one full forward without a cache, eight greedy_ids.
"""
import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

SMALL = dict(vocab_size=72, hidden_size=32, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=128, pad_token_id=None, bos_token_id=None,
             eos_token_id=None)

CASES = {
    "qwen2": dict(model_type="qwen2", rope_parameters=dict(rope_type="default", rope_theta=1e6)),
    "qwen2_window": dict(model_type="qwen2", use_sliding_window=True, sliding_window=5, max_window_layers=1,
                         tie_word_embeddings=True),
    "qwen3": dict(model_type="qwen3", head_dim=10, attention_bias=True),
    "gemma2": dict(model_type="gemma2", head_dim=12, sliding_window=5, query_pre_attn_scalar=20,
                   attn_logit_softcapping=3.0, final_logit_softcapping=2.0),
    "gemma3_text": dict(model_type="gemma3_text", head_dim=8, sliding_window=6, query_pre_attn_scalar=10,
                        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
                        rope_parameters=dict(full_attention=dict(rope_type="linear", factor=4.0, rope_theta=1e6),
                                             sliding_attention=dict(rope_type="default", rope_theta=5e3))),
    "phi3": dict(model_type="phi3", sliding_window=7, num_attention_heads=2, num_key_value_heads=1,
                 rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.75)),
    "olmo2": dict(model_type="olmo2", num_key_value_heads=4, attention_bias=True),
}


def draw(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        spread = 0.3 if p.ndim > 1 else 0.2
        noise = torch.randn(p.shape, generator=generator) * spread
        plain = name.endswith("norm.weight") and not model.config.model_type.startswith("gemma")
        p.data.copy_(noise + 1 if plain else noise)


def make(name, keys):
    seed = sum(map(ord, name))
    config = AutoConfig.for_model(keys.pop("model_type"), **{**SMALL, **keys})
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    draw(model, seed)
    model.tie_weights()
    ids = torch.randint(0, config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
        tokens = ids
        for _ in range(8):
            tokens = torch.cat([tokens, model(tokens, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        folder = Path(__file__).parent / name
        model.save_pretrained(folder)
        noise = (model.double()(ids, use_cache=False).logits - logits).abs().max().item()
    (folder / "generation_config.json").unlink(missing_ok=True)
    out = dict(input_ids=ids[0].contiguous(), logits=logits[0].contiguous(), greedy_ids=tokens[0, 24:].contiguous())
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
    save_file(out, folder / "expected.safetensors", dict(f32_vs_f64_maxdiff=json.dumps(noise), source=made_by))
    print(name, f"noise {noise:.1e}", f"logits {logits.std():.2f}")


for name in sys.argv[1:] or CASES:
    make(name, dict(CASES[name]))
