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

TINY = dict(vocab_size=40, hidden_size=24, intermediate_size=22, num_hidden_layers=2)

LONGROPE = dict(rope_type="longrope", rope_theta=1e4, short_factor=[1.0, 1.05, 1.3],
                long_factor=[1.1, 3.0, 9.5])

# Whose norms multiply by 1 + weight.
OFFSET = ("gemma", "recurrent_gemma", "qwen3_next", "qwen3_5", "qwen4_exp")

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
    "gemma3_text_cap": dict(TINY, model_type="gemma3_text", head_dim=6, sliding_window=5, query_pre_attn_scalar=20,
                            attn_logit_softcapping=5.0, final_logit_softcapping=3.0, sliding_window_pattern=2),
    "qwen2_gelu": dict(TINY, model_type="qwen2", hidden_act="gelu"),
    "kimi_linear_tied": dict(TINY, model_type="kimi_linear", num_key_value_heads=4, tie_word_embeddings=True,
                             layer_types=["linear_attention", "full_attention"], mlp_layer_types=["dense", "sparse"],
                             kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=5, v_head_dim=6, linear_head_dim=6,
                             linear_num_heads=3, linear_conv_kernel_dim=2, num_local_experts=4, num_experts_per_tok=2,
                             n_group=2, topk_group=1, moe_intermediate_size=11, attention_bias=True),
    "nemotron_h_tied": dict(TINY, model_type="nemotron_h", num_hidden_layers=None, head_dim=6, tie_word_embeddings=True,
                            layers_block_type=["linear_attention", "mlp", "full_attention"], mlp_hidden_act="gelu",
                            mlp_bias=True, use_bias=True, use_conv_bias=False, mamba_num_heads=4, mamba_head_dim=5,
                            n_groups=2, ssm_state_size=5, conv_kernel=2),
    "zamba2_untied": dict(TINY, model_type="zamba2", num_hidden_layers=3, num_attention_heads=2, n_mamba_heads=4,
                          layers_block_type=["hybrid", "linear_attention", "hybrid"], mamba_d_state=5, mamba_d_conv=3,
                          use_shared_attention_adapter=True, adapter_rank=2, use_mem_rope=True, add_bias_linear=True),
    "minimax": dict(TINY, model_type="minimax", head_dim=6, block_size=8, num_local_experts=3, num_experts_per_tok=2,
                    full_attn_alpha_factor=0.7, linear_attn_beta_factor=1.4, mlp_alpha_factor=1.2),
    "lfm2_moe": dict(TINY, model_type="lfm2_moe", layer_types=["conv", "full_attention"], conv_bias=True,
                     conv_L_cache=4, moe_intermediate_size=11, num_dense_layers=1, num_experts=5,
                     num_experts_per_tok=3, norm_topk_prob=False, routed_scaling_factor=1.8),
    "qwen3_next_dense": dict(TINY, model_type="qwen3_next", head_dim=8, num_experts=0, full_attention_interval=2,
                             linear_key_head_dim=5, linear_value_head_dim=6, linear_num_key_heads=1,
                             linear_num_value_heads=3, linear_conv_kernel_dim=3, attention_bias=True),
    "qwen3_5_moe_text": dict(TINY, model_type="qwen3_5_moe_text", head_dim=12, full_attention_interval=2,
                             linear_key_head_dim=5, linear_value_head_dim=6, linear_num_key_heads=2,
                             linear_num_value_heads=2, linear_conv_kernel_dim=2, moe_intermediate_size=11,
                             shared_expert_intermediate_size=9, num_experts=5, num_experts_per_tok=2),
    "zaya": dict(TINY, model_type="zaya", intermediate_size=None, head_dim=8, layer_types=["hybrid_sliding", "hybrid"],
                 sliding_window=5, num_experts=3, moe_intermediate_size=11, router_hidden_size=7, cca_time0=3,
                 lm_head_bias=True, attention_bias=True),
    "zaya_whole_heads": dict(TINY, model_type="zaya", intermediate_size=None, head_dim=8, num_experts=3,
                             moe_intermediate_size=11, router_hidden_size=7, sliding_window=5,
                             layer_types=["hybrid_sliding", "hybrid"],
                             rope_parameters=dict(hybrid=dict(rope_type="default", rope_theta=1e4),
                                                  hybrid_sliding=dict(rope_type="linear", factor=2.0, rope_theta=3e3))),
    "qwen4_exp_yarn": dict(TINY, model_type="qwen4_exp_text", intermediate_size=None, head_dim=12, hc_count=2,
                           hc_lowrank=5, layer_types=["linear_attention", "full_attention"], num_experts=3,
                           num_experts_per_tok=2, moe_intermediate_size=9, shared_expert_intermediate_size=7,
                           linear_key_head_dim=5, linear_value_head_dim=6, linear_num_key_heads=1,
                           linear_num_value_heads=2, linear_conv_kernel_dim=3, indexer_n_heads=12,
                           indexer_kv_heads=1, indexer_head_dim=12, indexer_compress_ratio=2, indexer_budget=6,
                           rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=1e4, attention_factor=2.5,
                                                partial_rotary_factor=0.5, original_max_position_embeddings=16)),
    # So many index heads that none of a block's sums is 0: ties are chosen among arbitrarily.
    "qwen4_exp_whole_heads": dict(TINY, model_type="qwen4_exp_text", intermediate_size=None, head_dim=6, hc_count=2,
                                  hc_lowrank=5, layer_types=["linear_attention", "full_attention"], num_experts=3,
                                  num_experts_per_tok=2, moe_intermediate_size=9, shared_expert_intermediate_size=7,
                                  linear_key_head_dim=5, linear_value_head_dim=6, linear_num_key_heads=1,
                                  linear_num_value_heads=2, linear_conv_kernel_dim=3, indexer_n_heads=12,
                                  indexer_kv_heads=1, indexer_head_dim=6, indexer_compress_ratio=2, indexer_budget=6,
                                  rope_parameters=dict(rope_type="yarn", factor=4.0, rope_theta=1e4,
                                                       original_max_position_embeddings=16)),
    "zamba": dict(TINY, model_type="zamba", num_hidden_layers=3, num_attention_heads=2, mamba_d_state=5, mamba_d_conv=3,
                  layers_block_type=["hybrid", "linear_attention", "hybrid"], mamba_dt_rank=3, mamba_proj_bias=True,
                  tie_word_embeddings=False),
    # Of 6 pairs each; 24 tokens are short for the first, long for the others.
    "phi3_longrope": dict(TINY, model_type="phi3", max_position_embeddings=160, original_max_position_embeddings=40,
                          rope_parameters=dict(LONGROPE)),
    "phi3_longrope_long": dict(TINY, model_type="phi3", max_position_embeddings=160, original_max_position_embeddings=16,
                               rope_parameters=dict(LONGROPE, partial_rotary_factor=0.67,
                                                    short_factor=LONGROPE["short_factor"][:2],
                                                    long_factor=LONGROPE["long_factor"][:2])),
    "llama_dynamic": dict(TINY, model_type="llama", max_position_embeddings=16, greedy=0,
                          rope_parameters=dict(rope_type="dynamic", factor=4.0, rope_theta=1e4)),
    "gemma3_text_yarn": dict(TINY, model_type="gemma3_text", head_dim=12, sliding_window=5, query_pre_attn_scalar=20,
                             layer_types=["full_attention", "sliding_attention"],
                             rope_parameters=dict(full_attention=dict(rope_type="yarn", factor=4.0, rope_theta=1e3,
                                                                      original_max_position_embeddings=64,
                                                                      beta_fast=8.0, truncate=False),
                                                  sliding_attention=dict(rope_type="default", rope_theta=5e3))),
    "llama_share": dict(TINY, model_type="llama", head_dim=10, num_hidden_layers=1,
                        rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.5)),
    "bamba_odd_rope": dict(TINY, model_type="bamba", attn_layer_indices=[1], mamba_n_heads=4, mamba_n_groups=2,
                           mamba_d_state=5, rope_parameters=dict(rope_type="linear", factor=2.0, rope_theta=1e4)),
}


def experts(config):
    routed = getattr(config, "num_experts", None) or getattr(config, "num_local_experts", None)
    return dict(experts_implementation="eager") if routed else {}


def draw(model, seed):
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        spread = 0.3 if p.ndim > 1 else 0.2
        noise = torch.randn(p.shape, generator=generator) * spread
        plain = name.endswith(("norm.weight", "hidden_states_scale", "residual_scale"))
        if model.config.model_type.startswith(OFFSET) and not name.endswith("linear_attn.norm.weight"):
            plain = False
        p.data.copy_(noise + 1 if plain else noise)


def make(name, keys):
    seed = sum(map(ord, name))
    greedy = keys.pop("greedy", 8)
    all_keys = {key: value for key, value in {**SMALL, **keys}.items() 
                if value is not None or key.endswith("token_id")}
    config = AutoConfig.for_model(all_keys.pop("model_type"), **all_keys)
    config._attn_implementation = "eager"
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, **experts(config)).eval()
    draw(model, seed)
    model.tie_weights()
    ids = torch.randint(0, config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(seed + 1))
    with torch.no_grad():
        logits = model(ids, use_cache=False).logits
        tokens = ids
        for _ in range(greedy):
            tokens = torch.cat([tokens, model(tokens, use_cache=False).logits[:, -1:].argmax(-1)], 1)
        folder = Path(__file__).parent / name
        model.save_pretrained(folder)
        noise = (model.double()(ids, use_cache=False).logits - logits).abs().max().item()
    (folder / "generation_config.json").unlink(missing_ok=True)
    out = dict(input_ids=ids[0].contiguous(), logits=logits[0].contiguous())
    if greedy:
        out["greedy_ids"] = tokens[0, 24:].contiguous()
    made_by = f"torch {torch.__version__}, transformers {transformers.__version__}"
    save_file(out, folder / "expected.safetensors", dict(f32_vs_f64_maxdiff=json.dumps(noise), source=made_by))
    print(name, f"noise {noise:.1e}", f"logits {logits.std():.2f}")


for name in sys.argv[1:] or CASES:
    make(name, dict(CASES[name]))
