"""Keys of configs beyond sizes and common flags: epsilons, limits, sizes that follow from others where nothing is said,
aliases, and older spellings of config.json."""
import json
from pathlib import Path

INFINITY = float("inf")
EPSILONS = ("rms_norm_eps", "norm_eps", "layer_norm_epsilon", "hc_eps")


def limits(r, keys):
    return r.choice(({}, dict(time_step_limit=r.choice(((0.01, 0.2), (0.0, 0.5), (0.3, INFINITY))))))


def derived_heads(r, keys):
    """Heads of Mamba-2 whose width fills the mixer, said or not."""
    if keys.get("mamba_d_ssm", 0) not in (0, keys["hidden_size"] * keys["mamba_expand"]):
        return {}
    return r.choice(({}, dict(mamba_d_head="auto")))


def rank(r, keys, name):
    return r.choice(({}, {name: "auto"}))


def falcon_h1(r, keys):
    if r.random() < 0.3:  # the width of the scan is that of the mixer
        width = keys["hidden_size"] * keys["mamba_expand"]
        heads = r.choice([n for n in range(1, 7) if width % n == 0])
        return dict(limits(r, keys), mamba_d_ssm=None, mamba_n_heads=heads, mamba_n_groups=1, mamba_d_head=r.choice(("auto", width // heads)))
    return limits(r, keys)


def nemotron_h(r, keys):
    return dict(use_bias=r.random() < 0.5, expand=r.choice((1, 2)), n_shared_experts=r.choice((1, 2)),
                num_nextn_predict_layers=0, sliding_window=None, time_step_limit=r.choice(((0.0, INFINITY), (0.01, 0.2))))


def zamba(r, keys):
    expand = r.choice((1, 2, 3))
    layers = ["linear_attention", "hybrid", "linear_attention", "linear_attention", "hybrid", "hybrid"]
    r.shuffle(layers)
    return dict(rank(r, keys, "mamba_dt_rank"), mamba_expand=expand, **r.choice(({}, dict(layers_block_type=layers))))


def zamba2(r, keys):
    expand = r.choice((1, 2))
    rope = dict(rope_parameters=r.choice((dict(rope_type="default", rope_theta=100.0), dict(rope_type="linear", rope_theta=1e4, factor=2.5))))
    return dict(mamba_expand=expand, hidden_act=r.choice(("gelu", "silu", "relu")), **r.choice(({}, rope)))


def lfm2(r, keys):
    layers = keys["num_hidden_layers"]
    chosen = sorted(r.sample(range(layers), r.randrange(1, layers)))
    return r.choice(({}, dict(layer_types=None, full_attn_idxs=chosen)))


def kimi_linear(r, keys):
    return dict(attention_bias=r.random() < 0.5, **r.choice(({}, dict(q_lora_rank=6))))


def recurrent_gemma(r, keys):
    rope = dict(rope_type="default", rope_theta=r.choice((100.0, 1e4)), partial_rotary_factor=r.choice((0.25, 0.5, 1.0)))
    return dict(tie_word_embeddings=True, **r.choice(({}, dict(rope_parameters=rope))))


def zaya(r, keys):
    kind = lambda: dict(rope_type="default", rope_theta=r.choice((100.0, 1e4)), partial_rotary_factor=r.choice((0.25, 0.5, 1.0)))
    return r.choice(({}, dict(rope_parameters=dict(hybrid=kind(), hybrid_sliding=kind()))))


def qwen_interval(r, keys):
    interval = r.choice((2, 3))
    chosen = r.choice(({}, dict(layer_types=None, full_attention_interval=interval)))
    return chosen if keys["num_hidden_layers"] >= interval else {}


def inkling_text(r, keys):
    local = sorted(r.sample(range(4), 2))
    return dict(log_scaling_alpha=r.choice((0.1, 0.3)), **r.choice(({}, dict(layer_types=None, local_layer_ids=local))))


MORE = {
    "mamba": lambda r, keys: dict(rank(r, keys, "time_step_rank"), **r.choice(({}, dict(intermediate_size=r.choice((18, 33)))))),
    "mamba2": lambda r, keys: limits(r, keys),
    "jamba": lambda r, keys: rank(r, keys, "mamba_dt_rank"),
    "bamba": derived_heads,
    "granitemoehybrid": lambda r, keys: dict(limits(r, keys), **derived_heads(r, keys)),
    "qwen4_exp_text": lambda r, keys: r.choice(({}, dict(output_gate_type=r.choice(("sigmoid", "silu"))))),
    **{f.__name__: f for f in (falcon_h1, nemotron_h, zamba, zamba2, lfm2, kimi_linear, recurrent_gemma, zaya, inkling_text)},
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), qwen_interval),
}
MORE["falcon_mamba"] = MORE["mamba"]


def seldom(family, r, keys, config_class):
    fields = set(config_class().to_dict())
    drawn = {key: r.choice((1e-6, 1e-5, 1e-3, 1e-1)) for key in EPSILONS if key in fields and key not in keys}
    return {**keys, **drawn, **MORE.get(family, lambda r, keys: {})(r, keys)}


# Words that configs of transformers 4 had for what 5 writes.
WORDS = {"full_attention": "attention", "linear_attention": "mamba"}
OLD_KINDS = {"granitemoehybrid": "layer_types", "nemotron_h": "layers_block_type", "zamba": "layers_block_type",
             "zamba2": "layers_block_type"}
LETTERS = {"linear_attention": "M", "full_attention": "*", "mlp": "-", "moe": "E"}
ALIASES = {"kimi_linear": {"num_experts": "num_local_experts", "num_experts_per_token": "num_experts_per_tok",
                           "num_shared_experts": "n_shared_experts", "num_expert_group": "n_group", "moe_renormalize": "norm_topk_prob"},
           "granitemoehybrid": {"layer_types": "layers_block_type"}, "nemotron_h": {"layers_block_type": "layer_types"},
           "zamba2": {"layers_block_type": "layer_types"}, "lfm2": {"intermediate_size": "block_ff_dim", "tie_word_embeddings": "tie_embedding"},
           "lfm2_moe": {"tie_word_embeddings": "tie_embedding"}}


def respell(r, family, folder):
    """config.json as older tools wrote it: every change with a chance of its own."""
    path = Path(folder) / "config.json"
    config = json.loads(path.read_text())
    rope = config.get("rope_parameters")
    flat = isinstance(rope, dict) and not any(isinstance(v, dict) for v in rope.values())
    # Bamba has its share of a head from rope_parameters alone; OLMo's rope_parameters say whether there are positions.
    if flat and family not in ("bamba", "olmo_hybrid") and r.random() < 0.5:
        del config["rope_parameters"]
        kind = rope.pop("rope_type", "default")
        for key in ("rope_theta", "partial_rotary_factor"):
            if key in rope:
                config[key] = rope.pop(key)
        config["rope_scaling"] = None if kind == "default" else {r.choice(("type", "rope_type")): kind, **rope}
    if "dtype" in config and r.random() < 0.5:
        config["torch_dtype"] = config.pop("dtype")
    kinds = OLD_KINDS.get(family)
    if kinds in config and r.random() < 0.5:
        if family == "nemotron_h" and r.random() < 0.5:
            config["hybrid_override_pattern"] = "".join(LETTERS[k] for k in config.pop(kinds))
            config["num_hidden_layers"] = len(config["hybrid_override_pattern"])
        else:
            config[kinds] = [WORDS.get(k, k) for k in config[kinds]]
    for now, other in ALIASES.get(family, {}).items():
        if now in config and r.random() < 0.5:
            config[other] = config.pop(now)
    text = json.dumps(config)
    if r.random() < 0.5:
        text = text.replace('{"__float__": "Infinity"}', "Infinity")
    path.write_text(text)
