"""Checkpoints by transformers of random configs, and those read again that were made of them.

python random_models.py make FOLDER SEED COUNT [family ...]
  For each family and seed FOLDER/family-seed gets config.json, model.safetensors and expected.safetensors: input_ids, and
  the logits of one full forward in f64, eager, without a cache (`logits`) and of one in f32 (`logits_f32`). What transformers
  itself refuses is drawn again with the next seed.
python random_models.py read FOLDER TO
  Writes TO/NAME.safetensors, the logits in f32 of each FOLDER/NAME; fails where a tensor is unknown or of another size.

torch 2.13 (CPU), transformers 5.18.
"""
import random
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from seldom import respell, seldom
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, Glm5NextConfig, Glm5NextForConditionalGeneration

VOCABULARY = 72
LENGTHS = (9, 23, 41, 70, 150)
TAPS = (2, 3, 4, 5)
STATES = (1, 4, 7, 16, 40, 128)


def flips(r, *keys):
    return {key: r.random() < 0.5 for key in keys}


def factors(r, *keys):
    return {key: round(r.uniform(0.5, 1.5), 2) for key in keys}


def kinds(r, layers, *names):
    """A kind for each layer, all of them there."""
    drawn = [*names, *(r.choice(names) for _ in range(layers - len(names)))]
    r.shuffle(drawn)
    return drawn


def rotation(r, share=None):
    kind = r.choice(("default", "linear", "yarn", "llama3"))
    keys = dict(rope_type=kind, rope_theta=r.choice((100.0, 1e4, 5e5)))
    if kind == "linear":
        keys.update(factor=2.5)
    if kind == "yarn":
        keys.update(factor=4.0, original_max_position_embeddings=16)
        keys.update(r.choice(({}, dict(beta_fast=16.0, beta_slow=2.0, attention_factor=1.1))))
    if kind == "llama3":
        keys.update(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    if share:
        keys.update(partial_rotary_factor=share)
    return dict(rope_parameters=keys)


def block(r, activations=("silu", "gelu", "relu", "gelu_pytorch_tanh", "relu2"), **keys):
    """What every Transformer says."""
    shared, groups, width = r.choice((1, 2, 3)), r.choice((1, 2, 3)), r.choice((6, 8, 10, 16, 24, 48, 80, 96))
    if width > 24:
        groups = 1
    return dict(num_attention_heads=shared * groups, num_key_value_heads=shared, head_dim=width,
                hidden_size=shared * groups * width, num_hidden_layers=r.choice((2, 3, 4)),
                intermediate_size=r.choice((24, 33, 40)), hidden_act=r.choice(activations), **flips(r, "tie_word_embeddings"),
                **keys)


def silu(r, **keys):
    return block(r, ("silu",), **keys)


def whole_heads(keys):
    """Of a family without head_dim."""
    return {key: value for key, value in keys.items() if key != "head_dim"}


def mamba2(r, keys, expand=2):
    """Mamba-2's sizes, of heads that fill the expanded width."""
    groups = r.choice((1, 2, 3))
    heads = groups * r.choice((1, 2, 3))
    while keys["hidden_size"] * expand % heads:
        keys["hidden_size"] += 2 * keys["num_attention_heads"]
    return dict(mamba_n_heads=heads, mamba_d_head=keys["hidden_size"] * expand // heads, mamba_n_groups=groups,
                mamba_d_state=r.choice(STATES), mamba_d_conv=r.choice(TAPS), mamba_expand=expand, mamba_chunk_size=8,
                **flips(r, "mamba_conv_bias", "mamba_proj_bias"))


def delta(r):
    keys = r.choice((1, 2, 3))
    return dict(linear_conv_kernel_dim=r.choice(TAPS), linear_key_head_dim=r.choice((4, 8, 24, 80)),
                linear_value_head_dim=r.choice((4, 8, 12, 48, 96)), linear_num_key_heads=keys,
                linear_num_value_heads=keys * r.choice((1, 2, 3)))


def experts(r, count="num_experts", per_token="num_experts_per_tok"):
    return {count: r.choice((3, 4, 8)), per_token: r.choice((1, 2, 3))}


def grouped_experts(r, count, per_token="num_experts_per_tok", groups="n_group"):
    """In groups of two at least, which those that are chosen of have as many as a token takes."""
    of, chosen = r.choice(((1, 1), (2, 1), (2, 2), (3, 2)))
    size = r.choice((2, 3, 4))
    return {count: of * size, per_token: r.randrange(1, min(3, chosen * size) + 1), groups: of, "topk_group": chosen}


def mamba(r):
    return dict(hidden_size=r.choice((12, 24, 40, 50)), state_size=r.choice(STATES), num_hidden_layers=3,
                expand=r.choice((1, 2, 3)), conv_kernel=r.choice(TAPS), time_step_rank=r.choice((1, 3, 8)),
                layer_norm_epsilon=r.choice((1e-5, 1e-3)), hidden_act="silu",
                **flips(r, "use_bias", "use_conv_bias", "residual_in_fp32", "tie_word_embeddings"))


def mamba2_alone(r):
    groups, width, expand = r.choice((1, 2, 3)), r.choice((4, 8, 10, 24, 48, 80, 96)), r.choice((1, 2))
    heads = groups * r.choice((1, 2, 3))
    return dict(num_heads=heads, head_dim=width, expand=expand, hidden_size=heads * width // expand,
                state_size=r.choice(STATES), num_hidden_layers=3, conv_kernel=r.choice(TAPS), n_groups=groups, chunk_size=r.choice((4, 8, 256)),
                time_step_limit=r.choice(((0.0, float("inf")), (0.01, 0.2))), hidden_act="silu",
                **flips(r, "use_bias", "use_conv_bias", "tie_word_embeddings"))


def jamba(r):
    keys, period = whole_heads(silu(r)), r.choice((2, 3))
    routed = r.choice((1, 3, 4))
    return dict(keys, num_hidden_layers=r.choice((3, 4, 5)), attn_layer_period=period, attn_layer_offset=r.randrange(period),
                expert_layer_period=2, expert_layer_offset=r.randrange(2), num_experts=routed,
                num_experts_per_tok=min(2, routed), mamba_d_state=r.choice(STATES), mamba_d_conv=r.choice(TAPS),
                mamba_expand=r.choice((1, 2, 3)), mamba_dt_rank=r.choice((2, 5)), use_mamba_kernels=False, **flips(r, "mamba_conv_bias", "mamba_proj_bias"))


def bamba(r):
    keys = whole_heads(silu(r))
    sizes = mamba2(r, keys)
    layers = keys["num_hidden_layers"]
    return dict(keys, **sizes, attn_layer_indices=sorted(r.sample(range(layers), r.randrange(1, layers))),
                **rotation(r, 1.0), **flips(r, "attention_bias", "mlp_bias"),
                **r.choice(({}, dict(time_step_limit=(0.01, 0.2)))))


def falcon_h1(r):
    keys = silu(r)
    sizes = dict(mamba2(r, keys), mamba_d_head=r.choice((4, 10, 24, 48)))
    return dict(keys, **sizes, **rotation(r), mamba_d_ssm=sizes["mamba_n_heads"] * sizes["mamba_d_head"],
                mlp_multipliers=list(factors(r, 0, 1).values()), ssm_multipliers=list(factors(r, *range(5)).values()),
                **factors(r, "lm_head_multiplier", "embedding_multiplier", "key_multiplier", "attention_out_multiplier",
                          "attention_in_multiplier", "ssm_in_multiplier", "ssm_out_multiplier"),
                **flips(r, "mamba_norm_before_gate", "mamba_rms_norm", "projectors_bias", "attention_bias", "mlp_bias"))


def granitemoehybrid(r):
    keys = whole_heads(silu(r))
    sizes = mamba2(r, keys)
    return dict(keys, **sizes, **rotation(r), num_local_experts=r.choice((0, 3, 4)), num_experts_per_tok=r.choice((1, 2, 3)),
                shared_intermediate_size=r.choice((16, 20)), position_embedding_type=r.choice(("rope", None)),
                layer_types=kinds(r, keys["num_hidden_layers"], "mamba", "attention"), **flips(r, "attention_bias"),
                **factors(r, "embedding_multiplier", "logits_scaling", "residual_multiplier", "attention_multiplier"))


def nemotron_h(r):
    keys, groups = silu(r), r.choice((1, 2, 3))
    del keys["num_hidden_layers"], keys["hidden_act"]
    return dict(keys, layers_block_type=kinds(r, 5, "linear_attention", "full_attention", "mlp", "moe"),
                mlp_hidden_act=r.choice(("relu2", "silu")), use_mamba_kernels=False, ssm_state_size=r.choice(STATES),
                mamba_num_heads=groups * r.choice((1, 2)), mamba_head_dim=r.choice((4, 10, 24, 48)), n_groups=groups,
                conv_kernel=r.choice(TAPS), chunk_size=8, time_step_min=r.choice((1e-3, 0.1)), use_bias=False, n_shared_experts=1,
                moe_intermediate_size=r.choice((12, 20)), moe_shared_expert_intermediate_size=r.choice((12, 24)),
                moe_latent_size=r.choice((None, 8)), routed_scaling_factor=r.choice((1.0, 2.5)),
                **grouped_experts(r, "n_routed_experts"),
                **flips(r, "attention_bias", "mlp_bias", "use_conv_bias", "mamba_proj_bias", "norm_topk_prob"))


def zamba(r):
    heads, width = r.choice((2, 4)), r.choice((16, 24))
    return dict(hidden_size=width, attention_hidden_size=2 * width, intermediate_size=40, num_hidden_layers=6,
                num_attention_heads=heads, num_key_value_heads=heads, n_mamba_heads=r.choice((1, 2)),
                hidden_act=r.choice(("gelu", "silu")), attn_layer_period=3, attn_layer_offset=r.choice((1, 2)),
                use_mamba_kernels=False, mamba_d_state=r.choice(STATES), mamba_d_conv=r.choice(TAPS), mamba_dt_rank=3,
                **flips(r, "tie_word_embeddings", "mamba_conv_bias", "mamba_proj_bias"))


def zamba2(r):
    heads = r.choice((2, 4))
    return dict(hidden_size=r.choice((16, 32)), num_hidden_layers=6, intermediate_size=40,
                layers_block_type=kinds(r, 6, "linear_attention", "linear_attention", "hybrid", "hybrid"),
                mamba_d_state=r.choice(STATES), mamba_d_conv=r.choice(TAPS), mamba_ngroups=r.choice((1, 2)),
                n_mamba_heads=r.choice((2, 4)), time_step_min=r.choice((1e-3, 0.1)), use_mamba_kernels=False, chunk_size=8, hidden_act="gelu",
                num_attention_heads=heads, num_key_value_heads=heads, num_mem_blocks=r.choice((1, 2)), adapter_rank=4,
                **flips(r, "use_conv_bias", "add_bias_linear", "use_shared_attention_adapter", "use_mem_rope",
                        "tie_word_embeddings"))


def lfm2(r):
    keys = whole_heads(block(r))
    del keys["hidden_act"]
    return dict(keys, conv_L_cache=r.choice(TAPS), block_multiple_of=r.choice((4, 16)), **rotation(r),
                block_ffn_dim_multiplier=r.choice((1.0, 1.3)), **flips(r, "conv_bias", "block_auto_adjust_ff_dim"),
                layer_types=kinds(r, keys["num_hidden_layers"], "conv", "full_attention"))


def lfm2_moe(r):
    keys = whole_heads(block(r))
    del keys["hidden_act"]
    return dict(keys, conv_L_cache=r.choice(TAPS), moe_intermediate_size=r.choice((12, 20)),
                num_dense_layers=r.choice((0, 1)), routed_scaling_factor=r.choice((1.0, 1.7)), **experts(r), **rotation(r),
                **flips(r, "conv_bias", "use_expert_bias", "norm_topk_prob"),
                layer_types=kinds(r, keys["num_hidden_layers"], "conv", "full_attention"))


def qwen3_next(r):
    keys = dict(silu(r), head_dim=r.choice((8, 16, 48, 80)))
    return dict(keys, **delta(r), decoder_sparse_step=r.choice((1, 2)), moe_intermediate_size=12,
                shared_expert_intermediate_size=r.choice((12, 20)), mlp_only_layers=r.choice(([], [0])), **experts(r),
                layer_types=kinds(r, keys["num_hidden_layers"], "linear_attention", "full_attention"),
                **rotation(r, r.choice((0.25, 0.5, 1.0))), **flips(r, "attention_bias", "norm_topk_prob"))


def qwen3_5_text(r):
    keys = dict(silu(r), head_dim=r.choice((16, 24, 48, 96)))
    return dict(keys, **delta(r), **flips(r, "attention_bias"),
                layer_types=kinds(r, keys["num_hidden_layers"], "linear_attention", "full_attention"),
                rope_parameters=dict(rope_type="default", rope_theta=1e3, partial_rotary_factor=r.choice((0.25, 0.5)),
                                     mrope_section=[1, 1, 0], mrope_interleaved=True))


def qwen3_5_moe_text(r):
    keys = qwen3_5_text(r)
    del keys["intermediate_size"]
    return dict(keys, moe_intermediate_size=12, shared_expert_intermediate_size=20, **experts(r))


def kimi_linear(r):
    heads = r.choice((1, 2, 3))
    return dict(hidden_size=r.choice((24, 26, 40)), intermediate_size=40, moe_intermediate_size=12, num_hidden_layers=3, pad_token_id=0,
                num_attention_heads=heads, num_key_value_heads=heads, num_shared_experts=r.choice((1, 2)),
                routed_scaling_factor=r.choice((1.0, 2.4)), kv_lora_rank=8, q_lora_rank=r.choice((None, 6)),
                qk_rope_head_dim=4, v_head_dim=r.choice((6, 8, 24)), qk_nope_head_dim=r.choice((8, 12)), hidden_act="silu", mlp_layer_types=["dense", *kinds(r, 2, "dense", "sparse")],
                layer_types=kinds(r, 3, "linear_attention", "full_attention"), linear_head_dim=r.choice((4, 8, 24, 48, 80)),
                linear_num_heads=r.choice((1, 2, 3)), linear_conv_kernel_dim=r.choice(TAPS),
                **grouped_experts(r, "num_experts", "num_experts_per_token", "num_expert_group"),
                **flips(r, "moe_renormalize"))


def olmo_hybrid(r):
    keys = whole_heads(silu(r))
    return dict(keys, **delta(r), pad_token_id=0, rope_parameters=r.choice((None, dict(rope_type="default", rope_theta=1e3))),
                layer_types=kinds(r, keys["num_hidden_layers"], "linear_attention", "full_attention"),
                **flips(r, "attention_bias", "linear_allow_neg_eigval"))


def minimax(r):
    keys = silu(r)
    parts = ("full_attn", "linear_attn", "mlp")
    return dict(keys, block_size=r.choice((4, 8)), **experts(r, "num_local_experts"), **rotation(r),
                layer_types=kinds(r, keys["num_hidden_layers"], "linear_attention", "full_attention"),
                **factors(r, *(f"{part}_{end}_factor" for part in parts for end in ("alpha", "beta"))))


def recurrent_gemma(r):
    heads, width = r.choice((1, 2, 4)), r.choice((8, 12, 24, 48))
    return dict(num_hidden_layers=r.choice((3, 4)), hidden_size=heads * width, intermediate_size=40, head_dim=width,
                num_attention_heads=heads, num_key_value_heads=r.choice((1, heads)), lru_width=heads * r.choice((4, 8, 20)),
                attention_window_size=r.choice((1, 5, 64)), conv1d_width=r.choice(TAPS), logits_soft_cap=r.choice((5.0, 30.0)),
                hidden_activation=r.choice(("gelu_pytorch_tanh", "silu")), **flips(r, "attention_bias"),
                block_types=r.choice((["recurrent", "recurrent", "attention"], ["recurrent", "attention"])))


def gemma(r, rotations):
    keys = block(r)
    del keys["hidden_act"]
    return dict(keys, hidden_activation=r.choice(("gelu_pytorch_tanh", "silu")), **flips(r, "attention_bias"),
                query_pre_attn_scalar=r.choice((8, 20)), sliding_window=r.choice((1, 5, 18)), final_logit_softcapping=r.choice((None, 10.0)),
                attn_logit_softcapping=r.choice((None, 5.0)), rope_parameters=rotations,
                layer_types=kinds(r, keys["num_hidden_layers"], "sliding_attention", "full_attention"))


def gemma3_text(r):
    return gemma(r, dict(sliding_attention=dict(rope_type="default", rope_theta=100.0),
                         full_attention=rotation(r)["rope_parameters"]))


def windowed(r):
    return dict(sliding_window=r.choice((None, 1, 5, 18)))


def qwen(r):
    return dict(sliding_window=r.choice((1, 5, 18)), max_window_layers=1, **rotation(r), **flips(r, "use_sliding_window"))


def rwkv(r):
    return dict(hidden_size=r.choice((16, 24)), num_hidden_layers=r.choice((3, 7)), attention_hidden_size=r.choice((16, 32)),
                intermediate_size=40, rescale_every=r.choice((0, 2, 6)), **flips(r, "tie_word_embeddings"))


def zaya(r):
    shared, layers = r.choice((1, 2)), r.choice((2, 4))
    return dict(hidden_size=r.choice((24, 26)), num_hidden_layers=layers, num_attention_heads=r.choice((1, 2, 3)) * shared,
                num_key_value_heads=shared, head_dim=r.choice((8, 24, 48)), moe_intermediate_size=12,
                num_experts=r.choice((3, 4)), router_hidden_size=8, cca_time0=r.choice((2, 3, 4)),
                cca_time1=r.choice((2, 3)), layer_types=[r.choice(("hybrid", "hybrid_sliding")) for _ in range(layers)],
                sliding_window=r.choice((1, 5, 18)), pad_token_id=0, **flips(r, "attention_bias", "lm_head_bias", "tie_word_embeddings"))


# Index heads so many that none of their sums is 0: ties are chosen among arbitrarily.
def glm5_next(r):
    heads = r.choice((2, 3))
    return dict(hidden_size=16, intermediate_size=24, moe_intermediate_size=8, num_hidden_layers=4, pad_token_id=None,
                num_attention_heads=heads, num_key_value_heads=heads, n_shared_experts=r.choice((1, 2)),
                routed_scaling_factor=r.choice((1.0, 2.5)), kv_lora_rank=8, q_lora_rank=10, qk_rope_head_dim=0,
                v_head_dim=r.choice((6, 8, 24)), qk_nope_head_dim=r.choice((8, 12)),
                mlp_layer_types=["dense", *kinds(r, 3, "dense", "sparse")], index_topk=r.choice((6, 12)), index_head_dim=4,
                index_n_heads=r.choice((11, 12)), layer_types=kinds(r, 4, "linear_attention", "indexed_attention"),
                indexer_types=["full"] * 4, swiglu_limit=r.choice((0.5, 10.0)), linear_head_dim=r.choice((4, 6, 24, 80)),
                linear_num_heads=r.choice((1, 2)), linear_conv_kernel_dim=r.choice(TAPS),
                linear_lower_bound=r.choice((-5.0, -2.0)),
                hc_mult=r.choice((2, 3)), hc_sinkhorn_iters=r.choice((3, 20)), index_kpool=r.choice((2, 3)),
                **grouped_experts(r, "n_routed_experts"), **flips(r, "norm_topk_prob", "tie_word_embeddings", "attention_bias"))


def qwen4_exp_text(r):
    shared, keys = r.choice((1, 2)), r.choice((1, 2))
    heads = shared * r.choice((1, 2))
    layers = kinds(r, 4, "linear_attention", "indexed_attention")
    grams = dict(ple_layer_ids=[i + 1 for i, kind in enumerate(layers) if kind == "linear_attention"][:2], ple_embed_dim=12,
                 ple_conv_kernel_size=r.choice((2, 3)), ngram_size=r.choice((2, 3)), heads_per_ngram=2,
                 ngram_vocab_size_base=40, make_ngram_vocab_size_divisible_by=16, split_ngram_parts=1)
    return dict(hidden_size=16, num_hidden_layers=4, num_attention_heads=heads, num_key_value_heads=shared, head_dim=8,
                eos_token_id=7, moe_intermediate_size=8, shared_expert_intermediate_size=10, hc_count=r.choice((2, 3)),
                hc_lowrank=6, linear_conv_kernel_dim=r.choice(TAPS), linear_key_head_dim=r.choice((4, 6, 24)),
                linear_value_head_dim=r.choice((4, 6, 48)), linear_num_key_heads=keys, linear_num_value_heads=2 * keys,
                indexer_n_heads=12 * heads, indexer_kv_heads=1, indexer_head_dim=r.choice((4, 8)),
                indexer_budget=r.choice((3, 6, 12)), indexer_compress_ratio=3, layer_types=layers,
                rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.25, mrope_section=[1, 0, 0]),
                **experts(r), **flips(r, "tie_word_embeddings", "attention_bias", "norm_topk_prob"), **r.choice(({}, grams)))


def inkling_text(r):
    shared, local = r.choice((1, 2)), r.choice((1, 3))
    return dict(hidden_size=24, num_hidden_layers=4, num_attention_heads=2 * shared, num_key_value_heads=shared, head_dim=6,
                swa_num_attention_heads=local * r.choice((1, 2)), swa_num_key_value_heads=local, swa_head_dim=8,
                sliding_window_size=r.choice((1, 5, 18)), d_rel=r.choice((4, 7)), rel_extent=r.choice((5, 12)), log_scaling_n_floor=r.choice((None, 8)),
                layer_types=kinds(r, 4, "hybrid_sliding", "hybrid"), conv_kernel_size=r.choice(TAPS),
                mlp_layer_types=kinds(r, 4, "dense", "sparse"), intermediate_size=32, moe_intermediate_size=10,
                n_shared_experts=r.choice((1, 2)), route_scale=r.choice((1.0, 2.0)), logits_mup_width_multiplier=2.0,
                unpadded_vocab_size=r.choice((None, VOCABULARY - 2)), **experts(r, "n_routed_experts"))


FAMILIES = {
    "mamba": mamba,
    "falcon_mamba": lambda r: dict(mamba(r), mixer_rms_eps=r.choice((1e-6, 1e-2))),
    "mamba2": mamba2_alone,
    "llama": lambda r: block(r, **rotation(r), **flips(r, "attention_bias", "mlp_bias")),
    "mistral": lambda r: block(r, **rotation(r), **windowed(r)),
    "mixtral": lambda r: silu(r, **rotation(r), **windowed(r), **experts(r, "num_local_experts")),
    "qwen2": lambda r: whole_heads(block(r, **qwen(r))),
    "qwen3": lambda r: block(r, **qwen(r), **flips(r, "attention_bias")),
    "gemma2": lambda r: gemma(r, rotation(r)["rope_parameters"]),
    "phi3": lambda r: whole_heads(block(r, pad_token_id=0, **windowed(r), rope_parameters=dict(
        rope_type="default", rope_theta=1e3, partial_rotary_factor=r.choice((0.5, 0.75, 1.0))))),
    "olmo2": lambda r: whole_heads(block(r, **rotation(r), **flips(r, "attention_bias"))),
    "glm5_next_text": glm5_next,
    **{f.__name__: f for f in (jamba, bamba, falcon_h1, granitemoehybrid, nemotron_h, zamba, zamba2, lfm2, lfm2_moe,
                               qwen3_next, qwen3_5_text, qwen3_5_moe_text, kimi_linear, olmo_hybrid, minimax,
                               recurrent_gemma, gemma3_text, rwkv, zaya, qwen4_exp_text, inkling_text)},
}


def build(family, keys):
    config = CONFIG_MAPPING[family](vocab_size=VOCABULARY, **keys)
    config._attn_implementation = config._experts_implementation = "eager"
    if family != "glm5_next_text":
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    seen = dict(depth=1, hidden_size=8, image_size=4, in_channels=1, intermediate_size=8, num_heads=1, out_hidden_size=16,
                patch_size=2, spatial_merge_size=1, temporal_patch_size=1)
    whole = Glm5NextConfig(text_config=config.to_dict(), vision_config=seen)
    whole.text_config._experts_implementation = whole.text_config._attn_implementation = "eager"
    return Glm5NextForConditionalGeneration(whole).eval()


def draw(model, seed):
    """Weights that leave every part its say; steps and decays stay near where they were initialised."""
    generator = torch.Generator().manual_seed(seed)
    recurrent = ("A_log", "dt_bias", "dt_proj.bias", "recurrent_param", "time_decay", "time_first")
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        noise = torch.randn(p.shape, generator=generator)
        if name.endswith(recurrent):
            p.data.add_(0.1 * noise)
        elif name.endswith(("correction_bias", "expert_bias")):
            p.data.copy_(0.1 * noise)
        elif isinstance(p, torch.nn.Parameter):
            plain = name.endswith(".D") or "norm" in name and name.endswith("weight")
            spread = 0.7 if "embed" in name else p.shape[-1] ** -0.5 if p.ndim > 1 else 0.2
            p.data.copy_(noise * spread + (1 if plain and p.ndim == 1 else 0))


def make(family, seed, folder):
    r = random.Random(f"{family} {seed}")
    torch.manual_seed(seed)
    drawn = FAMILIES[family](r)
    model = build(family, seldom(family, r, drawn, CONFIG_MAPPING[family]) if r.random() < 0.7 else drawn)
    draw(model, seed)
    model.tie_weights()
    ids = torch.tensor([[r.randrange(VOCABULARY - 5) for _ in range(r.choice(LENGTHS))]])
    model.save_pretrained(folder)
    respell(r, family, folder)
    with torch.no_grad():
        narrow = model(input_ids=ids, use_cache=False).logits[0].contiguous()
        wide = model.double()(input_ids=ids, use_cache=False).logits[0].float().contiguous()
    tensors = dict(input_ids=ids[0].int(), logits=wide, logits_f32=narrow)
    save_file(tensors, Path(folder) / "expected.safetensors")


def make_all(folder, seed, count, *names):
    for family in names or FAMILIES:
        made, tried = 0, int(seed)
        while made < int(count):
            try:
                make(family, tried, Path(folder) / f"{family}-{tried}")
                made += 1
            except (ValueError, ZeroDivisionError) as error:
                print(f"{family} {tried}: {error}", file=sys.stderr)
                if tried > int(seed) + 20 * int(count):
                    raise
            tried += 1


def read_all(folder, to):
    for path in sorted(Path(folder).iterdir()):
        loader = Glm5NextForConditionalGeneration if path.name.startswith("glm5_next") else AutoModelForCausalLM
        model, info = loader.from_pretrained(path, dtype=torch.float32, attn_implementation="eager",
                                             experts_implementation="eager", output_loading_info=True)
        # What is missing and used is drawn at random, which the logits show: vision, adapters that no layer turns to, and
        # what is computed of the config are missing rightly.
        del info["missing_keys"]
        wrong = {kind: list(names) for kind, names in info.items() if names}
        if wrong:
            sys.exit(f"{path.name}: {wrong}")
        ids = load_file(path / "expected.safetensors")["input_ids"]
        with torch.no_grad():
            logits = model.eval()(input_ids=ids[None].long(), use_cache=False).logits[0].contiguous()
        save_file(dict(logits=logits), Path(to) / f"{path.name}.safetensors")


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    {"make": make_all, "read": read_all}[sys.argv[1]](*sys.argv[2:])
