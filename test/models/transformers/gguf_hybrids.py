"""The hybrids and Mamba-2, as gguf_architectures.py has the others."""
import torch
from gguf_architectures import (Made, Tensor, attention, conv, decay, head_keys, heads, mamba_mixer, maybe, mlp, pairs,
                                plus_one, rotation, stacked)
from random_models import flips, kinds

ATTENTION, MAMBA = "full_attention", "linear_attention"


class GroupNorm(torch.nn.Module):
    """Of Mamba-2's mixer, over each group as the file says: transformers' own takes the whole width."""

    def __init__(self, norm, groups):
        super().__init__()
        self.weight, self.eps, self.groups = norm.weight, norm.variance_epsilon, groups

    def forward(self, x, gate):
        x = (x * torch.nn.functional.silu(gate)).unflatten(-1, (self.groups, -1))
        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * x.flatten(-2)


def ssm_sizes(r, width, prefix="mamba_"):
    """Sizes of Mamba-2's mixer under a hybrid's names, and their keys."""
    groups, head = r.choice((1, 1, 2)), r.choice((8, 16, 32))
    count = 2 * width // head
    if count % groups:
        groups = 1
    sizes = dict(n_heads=count, d_head=head, n_groups=groups, d_state=r.choice((4, 7, 16)), d_conv=r.choice((2, 4)), expand=2)
    keys = {"ssm.conv_kernel": sizes["d_conv"], "ssm.inner_size": 2 * width, "ssm.state_size": sizes["d_state"],
            "ssm.time_step_rank": count, "ssm.group_count": groups}
    return {prefix + key: value for key, value in sizes.items()}, keys


def mamba2_mixer(blk, m, groups, own_norm=True):
    if own_norm and groups > 1:
        m.norm = GroupNorm(m.norm, groups)
    heads = (len(m.A_log), 1)
    yield from Made.linear(None, f"{blk}.ssm_in", m.in_proj)
    yield conv(f"{blk}.ssm_conv1d.weight", m.conv1d.weight)
    if m.conv1d.bias is not None:
        yield Tensor(f"{blk}.ssm_conv1d.bias", m.conv1d.bias)
    yield Tensor(f"{blk}.ssm_dt.bias", m.dt_bias)
    yield decay(f"{blk}.ssm_a", m.A_log, heads)
    yield Tensor(f"{blk}.ssm_d", m.D, shape=heads)
    if hasattr(m.norm, "weight"):  # Falcon-H1 may have none
        yield Tensor(f"{blk}.ssm_norm.weight", m.norm.weight, shape=(groups, len(m.norm.weight) // groups))
    yield from Made.linear(None, f"{blk}.ssm_out", m.out_proj)


def mamba2(r):
    width, eps = r.choice((32, 64, 96, 256)), r.choice((1e-5, 1e-3))
    sizes, keys = ssm_sizes(r, width, "")
    c = dict(num_heads=sizes["n_heads"], head_dim=sizes["d_head"], hidden_size=width, state_size=sizes["d_state"], expand=2,
             num_hidden_layers=r.choice((2, 3)), conv_kernel=sizes["d_conv"], n_groups=sizes["n_groups"], chunk_size=8,
             hidden_act="silu", layer_norm_epsilon=eps, **flips(r, "use_bias", "tie_word_embeddings"),
             use_conv_bias=r.random() < 0.8)
    keys.update({"block_count": c["num_hidden_layers"], "context_length": 2**20, "embedding_length": width,
                 "feed_forward_length": 0, "attention.head_count": 0, "attention.layer_norm_rms_epsilon": eps})

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.norm.weight)
        yield from mamba2_mixer(blk, m.mixer, c["n_groups"])

    return Made("mamba2", "mamba2", c, keys, layer, ends=("norm_f", "output_norm", Tensor))


def without_head_dim(c):
    return {key: value for key, value in c.items() if key != "head_dim"}


def rotated_attention(blk, a, width):
    for t in attention(blk, a):
        yield pairs(t.name, t.view, width) if "attn_q" in t.name or "attn_k" in t.name else t


def jamba(r):
    c = without_head_dim(heads(r, False))
    layers, period = r.choice((3, 4, 5)), r.choice((2, 3))
    offset, routed = r.randrange(period), r.choice((1, 3, 4))
    attends = [i % period == offset for i in range(layers)]
    c.update(num_hidden_layers=layers, attn_layer_period=period, attn_layer_offset=offset, num_experts=routed,
             num_experts_per_tok=min(2, routed), expert_layer_period=2, expert_layer_offset=r.randrange(2),
             mamba_d_state=r.choice((4, 16)), mamba_d_conv=r.choice((2, 4)), mamba_dt_rank=r.choice((2, 16, 32)),
             mamba_expand=2, use_mamba_kernels=False, **flips(r, "mamba_proj_bias"), mamba_conv_bias=r.random() < 0.8)
    keys = {**head_keys(r, c, [c["num_key_value_heads"] * is_one for is_one in attends]), "ssm.conv_kernel": c["mamba_d_conv"],
            "ssm.inner_size": 2 * c["hidden_size"], "ssm.state_size": c["mamba_d_state"],
            "ssm.time_step_rank": c["mamba_dt_rank"], **maybe(r, "expert_count", routed, 1),
            **maybe(r, "expert_used_count", min(2, routed), 1)}

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield Tensor(f"{blk}.ffn_norm.weight", m.pre_ff_layernorm.weight)
        if attends[i]:
            yield from attention(blk, m.self_attn)
        else:
            yield from mamba_mixer(blk, m.mamba)
            for x in ("dt", "b", "c"):
                yield Tensor(f"{blk}.ssm_{x}_norm.weight", getattr(m.mamba, f"{x}_layernorm").weight)
        if hasattr(m.feed_forward, "router"):
            yield Tensor(f"{blk}.ffn_gate_inp.weight", m.feed_forward.router.weight)
            yield from stacked(blk, m.feed_forward.experts)
        else:
            yield from mlp(blk, m.feed_forward)

    return Made("jamba", "jamba", c, keys, layer, ends=("final_layernorm", "output_norm", Tensor))


def hybrid_layers(r, c, *names):
    """Kinds of the layers, and head_count_kv of them."""
    drawn = kinds(r, c["num_hidden_layers"], *names)
    return drawn, [c["num_key_value_heads"] * (kind in (ATTENTION, "attention")) for kind in drawn]


def granite(r):
    c = without_head_dim(heads(r, False))
    width = c["hidden_size"] // c["num_attention_heads"]
    sizes, ssm = ssm_sizes(r, c["hidden_size"])
    layers, kv = hybrid_layers(r, c, "mamba", "attention")
    rope, rope_keys, finish = rotation(r, width)
    turns, routed, shared = r.random() < 0.3, r.choice((0, 4)), r.choice((32, 64))
    factors = {x: round(r.uniform(0.5, 1.5), 3) for x in ("embedding", "residual", "attention")}
    c.update(sizes, **rope, layer_types=layers, num_local_experts=routed, num_experts_per_tok=2, mamba_chunk_size=8,
             shared_intermediate_size=shared, position_embedding_type="rope" if turns else None,
             logits_scaling=r.choice((1.0, 1.7)), **{f"{x}_multiplier": value for x, value in factors.items()},
             mamba_conv_bias=True, **flips(r, "attention_bias", "mamba_proj_bias"))
    if routed == 0:
        c["intermediate_size"] = shared
    keys = {**head_keys(r, c, kv), **ssm, **rope_keys, **maybe(r, "rope.scaling.finetuned", turns, False),
            "attention.scale": factors["attention"], "embedding_scale": factors["embedding"],
            "residual_scale": factors["residual"], **maybe(r, "logit_scale", c["logits_scaling"], 1.0)}
    if routed:
        keys.update({"expert_count": routed, "expert_used_count": 2, "expert_shared_feed_forward_length": shared})
    elif r.random() < 0.5:
        keys.update({"expert_count": 0, "expert_used_count": 0})

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield Tensor(f"{blk}.ffn_norm.weight", m.post_attention_layernorm.weight)
        if layers[i] == "mamba":
            yield from mamba2_mixer(blk, m.mamba, sizes["mamba_n_groups"])
        else:
            yield from rotated_attention(blk, m.self_attn, width)
        if routed:
            yield Tensor(f"{blk}.ffn_gate_inp.weight", m.block_sparse_moe.router.weight)
            yield from stacked(blk, m.block_sparse_moe.experts)
        end, half = "_shexp" if routed else "", shared
        yield Tensor(f"{blk}.ffn_gate{end}.weight", m.shared_mlp.input_linear.weight[:half])
        yield Tensor(f"{blk}.ffn_up{end}.weight", m.shared_mlp.input_linear.weight[half:])
        yield Tensor(f"{blk}.ffn_down{end}.weight", m.shared_mlp.output_linear.weight)

    return Made("granitehybrid", "granitemoehybrid", c, keys, layer, finish=finish)


def bamba(r):
    c = without_head_dim(heads(r, False))
    width = c["hidden_size"] // c["num_attention_heads"]
    sizes, ssm = ssm_sizes(r, c["hidden_size"])
    layers, kv = hybrid_layers(r, c, "mamba", "attention")
    rope, rope_keys, _ = rotation(r, width, ("default",))
    share = r.choice((0.5, 0.25))
    rope["rope_parameters"]["partial_rotary_factor"] = share
    rope_keys["rope.dimension_count"] = width if share == 0.5 and r.random() < 0.5 else int(width * share)
    c.update(sizes, **rope, attn_layer_indices=[i for i, kind in enumerate(layers) if kind == "attention"], mamba_chunk_size=8,
             mamba_conv_bias=True, **flips(r, "attention_bias", "mamba_proj_bias", "mlp_bias"))
    keys = {**head_keys(r, c, kv), **ssm, **rope_keys, "rope.scaling.finetuned": True}

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield Tensor(f"{blk}.ffn_norm.weight", m.pre_ff_layernorm.weight)
        if layers[i] == "mamba":
            yield from mamba2_mixer(blk, m.mamba, sizes["mamba_n_groups"])
        else:
            yield from rotated_attention(blk, m.self_attn, width)
        yield from mlp(blk, m.feed_forward)

    return Made("granitehybrid", "bamba", c, keys, layer, ends=("final_layernorm", "output_norm", Tensor))


def falcon_h1(r):
    c = heads(r)
    sizes, ssm = ssm_sizes(r, c["hidden_size"])
    rope, rope_keys, _ = rotation(r, c["head_dim"], ("default", "linear", "yarn"))
    ones = ("lm_head", "embedding", "key", "attention_out", "attention_in", "ssm_in", "ssm_out")
    c.update(sizes, **rope, mamba_d_ssm=ssm["ssm.inner_size"], mlp_multipliers=[1.0] * 2, ssm_multipliers=[1.0] * 5,
             **{f"{x}_multiplier": 1.0 for x in ones}, mamba_norm_before_gate=False, mamba_conv_bias=True, mamba_chunk_size=8,
             **flips(r, "mamba_rms_norm", "projectors_bias", "attention_bias", "mlp_bias", "mamba_proj_bias"))
    keys = {**head_keys(r, c), **ssm, **rope_keys}

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield Tensor(f"{blk}.ffn_norm", m.pre_ff_layernorm.weight)
        yield from mamba2_mixer(blk, m.mamba, sizes["mamba_n_groups"], False)
        yield from attention(blk, m.self_attn)
        yield from mlp(blk, m.feed_forward)

    return Made("falcon-h1", "falcon_h1", c, keys, layer, ends=("final_layernorm", "output_norm", Tensor))


def lfm2(routed):
    def drawn(r):
        c = without_head_dim(heads(r, False))
        del c["hidden_act"], c["rms_norm_eps"]
        width, eps = c["hidden_size"] // c["num_attention_heads"], r.choice((1e-5, 1e-3))
        c.update(norm_eps=eps, num_hidden_layers=r.choice((3, 4)))
        layers, kv = hybrid_layers(r, c, "conv", ATTENTION)
        rope, rope_keys, _ = rotation(r, width, ("default", "linear", "yarn"))
        c.update(rope, conv_L_cache=r.choice((2, 3, 4)), layer_types=layers, **flips(r, "conv_bias"))
        keys = {**head_keys(r, {**c, "rms_norm_eps": eps}, kv), **rope_keys, "shortconv.l_cache": c["conv_L_cache"]}
        dense = 0
        if routed:
            dense, scale, normed = r.choice((0, 1)), r.choice((1.0, 1.7)), r.random() < 0.7
            c.update(num_dense_layers=dense, moe_intermediate_size=r.choice((32, 48, 64)), num_experts=4, num_experts_per_tok=2,
                     routed_scaling_factor=scale, norm_topk_prob=normed, **flips(r, "use_expert_bias"))
            keys.update({"leading_dense_block_count": dense, "expert_count": 4, "expert_used_count": 2,
                         "expert_feed_forward_length": c["moe_intermediate_size"],
                         **maybe(r, "expert_weights_scale", scale, 1.0), **maybe(r, "expert_weights_norm", normed, True),
                         **({"expert_gating_func": 2} if r.random() < 0.7 else {})})
        else:
            c["block_auto_adjust_ff_dim"] = False

        def layer(blk, m, i):
            yield Tensor(f"{blk}.attn_norm.weight", m.operator_norm.weight)
            yield Tensor(f"{blk}.ffn_norm.weight", m.ffn_norm.weight)
            if layers[i] == "conv":
                yield conv(f"{blk}.shortconv.conv.weight", m.conv.conv.weight)
                if m.conv.conv.bias is not None:
                    yield Tensor(f"{blk}.shortconv.conv.bias", m.conv.conv.bias)
                for x in ("in_proj", "out_proj"):
                    yield from Made.linear(None, f"{blk}.shortconv.{x}", getattr(m.conv, x))
            else:
                yield from attention(blk, m.self_attn, "out_proj", ("q_layernorm", "k_layernorm"))
            if routed and i >= dense:
                yield Tensor(f"{blk}.ffn_gate_inp.weight", m.feed_forward.gate.weight)
                if c["use_expert_bias"]:
                    yield Tensor(f"{blk}.exp_probs_b.bias", m.feed_forward.expert_bias)
                yield from stacked(blk, m.feed_forward.experts)
            else:
                yield from mlp(blk, m.feed_forward, ("w1", "w3", "w2"))

        name = "lfm2moe" if routed else "lfm2"
        return Made(name, "lfm2_moe" if routed else "lfm2", c, keys, layer, ends=("embedding_norm", "token_embd_norm", Tensor))

    return drawn


def nemotron_h(routed):
    def drawn(r):
        c = heads(r)
        del c["hidden_act"]
        eps = c.pop("rms_norm_eps")
        c["num_hidden_layers"] = 5
        sizes, ssm = ssm_sizes(r, c["hidden_size"], "")
        layers, kv = hybrid_layers(r, c, MAMBA, ATTENTION, "moe" if routed else "mlp", *(["mlp"] if routed else []))
        widths = [dict(moe=48, mlp=c["intermediate_size"]).get(kind, 0) for kind in layers]
        epsilon = "attention.layer_norm_epsilon"
        keys = {**head_keys(r, {**c, "rms_norm_eps": eps}, kv, epsilon), **ssm, "feed_forward_length": widths}
        del c["num_hidden_layers"]
        c.update(layers_block_type=layers, mlp_hidden_act="relu2", use_mamba_kernels=False, layer_norm_epsilon=eps,
                 mamba_num_heads=sizes["n_heads"], mamba_head_dim=sizes["d_head"], n_groups=sizes["n_groups"],
                 ssm_state_size=sizes["d_state"], conv_kernel=sizes["d_conv"], expand=2, chunk_size=8, moe_latent_size=None,
                 use_bias=False, **flips(r, "attention_bias", "mlp_bias", "use_conv_bias"))
        if routed:
            scale, normed, groups = r.choice((1.0, 2.5)), r.random() < 0.7, r.choice((1, 2))
            latent = r.choice((None, 32))
            c.update(moe_latent_size=latent, n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1,
                     moe_intermediate_size=48, n_group=groups, topk_group=1, routed_scaling_factor=scale,
                     moe_shared_expert_intermediate_size=r.choice((32, 64)), norm_topk_prob=normed, mlp_bias=False)
            keys.update({"expert_count": 4, "expert_used_count": 2, **maybe(r, "expert_shared_count", 1, 1),
                         "expert_feed_forward_length": 48, "expert_weights_norm": normed, "expert_weights_scale": scale,
                         "expert_shared_feed_forward_length": c["moe_shared_expert_intermediate_size"],
                         **maybe(r, "expert_group_count", groups, 1), **maybe(r, "expert_group_used_count", 1, 1)},
                        **({"moe_latent_size": latent} if latent else {}))

        def layer(blk, m, i):
            yield Tensor(f"{blk}.attn_norm.weight", m.norm.weight)
            if layers[i] == MAMBA:
                yield from mamba2_mixer(blk, m.mixer, sizes["n_groups"], False)
            elif layers[i] == ATTENTION:
                yield from rotated_attention(blk, m.mixer, c["head_dim"])
            elif layers[i] == "mlp":
                yield from nonlinear(blk, m.mixer, "")
            else:
                yield Tensor(f"{blk}.ffn_gate_inp.weight", m.mixer.gate.weight)
                yield Tensor(f"{blk}.exp_probs_b.bias", m.mixer.gate.e_score_correction_bias)
                yield from stacked(blk, m.mixer.experts)
                if c["moe_latent_size"]:
                    yield from Made.linear(None, f"{blk}.ffn_latent_down", m.mixer.fc1_latent_proj)
                    yield from Made.linear(None, f"{blk}.ffn_latent_up", m.mixer.fc2_latent_proj)
                yield from nonlinear(blk, m.mixer.shared_experts, "_shexp")

        name = "nemotron_h_moe" if routed else "nemotron_h"
        return Made(name, "nemotron_h", c, keys, layer, ends=("norm_f", "output_norm", Tensor))

    return drawn


def nonlinear(blk, m, end):
    for x in ("up", "down"):
        yield from Made.linear(None, f"{blk}.ffn_{x}{end}", getattr(m, f"{x}_proj"))


def qwen3_next(r):
    c = heads(r)
    c["num_hidden_layers"] = r.choice((2, 4))
    count, ratio, key, value = r.choice((1, 2)), r.choice((1, 2)), r.choice((8, 16)), r.choice((8, 12, 16))
    layers, _ = hybrid_layers(r, c, MAMBA, ATTENTION)
    share = r.choice((0.25, 0.5, 1.0))
    turned = int(c["head_dim"] * share)
    rope, rope_keys, _ = rotation(r, turned, ("default", "linear"))
    rope["rope_parameters"]["partial_rotary_factor"] = share
    rope_keys.pop("rope.dimension_count", None)
    c.update(rope, layer_types=layers, linear_conv_kernel_dim=r.choice((2, 4)), linear_key_head_dim=key,
             linear_value_head_dim=value, linear_num_key_heads=count, linear_num_value_heads=count * ratio, num_experts=4,
             num_experts_per_tok=2, moe_intermediate_size=r.choice((32, 48)), shared_expert_intermediate_size=r.choice((32, 64)),
             norm_topk_prob=True, decoder_sparse_step=1, mlp_only_layers=[])
    keys = {**head_keys(r, c), **rope_keys, **maybe(r, "rope.dimension_count", turned, c["head_dim"]),
            "ssm.conv_kernel": c["linear_conv_kernel_dim"], "ssm.state_size": key, "ssm.group_count": count,
            "ssm.time_step_rank": count * ratio, "ssm.inner_size": count * ratio * value, "expert_count": 4,
            "expert_used_count": 2, "expert_feed_forward_length": c["moe_intermediate_size"],
            "expert_shared_feed_forward_length": c["shared_expert_intermediate_size"],
            **({"attention.recurrent_layers": [kind == MAMBA for kind in layers]} if r.random() < 0.5 else {})}

    def delta(blk, m):
        rows = torch.arange(len(m.in_proj_qkvz.weight)).reshape(count, -1)
        parts = rows.split((key, key, ratio * value, ratio * value), dim=1)
        order = torch.cat([part.reshape(-1) for part in parts[:3]])
        yield Tensor(f"{blk}.attn_qkv.weight", m.in_proj_qkvz.weight, order, (len(order), c["hidden_size"]))
        gate = parts[3].reshape(-1)
        yield Tensor(f"{blk}.attn_gate.weight", m.in_proj_qkvz.weight, gate, (len(gate), c["hidden_size"]))
        yield Tensor(f"{blk}.ssm_ba.weight", m.in_proj_ba.weight)
        yield conv(f"{blk}.ssm_conv1d.weight", m.conv1d.weight)
        yield decay(f"{blk}.ssm_a", m.A_log)
        yield Tensor(f"{blk}.ssm_dt.bias", m.dt_bias)
        yield Tensor(f"{blk}.ssm_norm.weight", m.norm.weight)
        yield Tensor(f"{blk}.ssm_out.weight", m.out_proj.weight)

    def layer(blk, m, i):
        yield plus_one(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield plus_one(f"{blk}.post_attention_norm.weight", m.post_attention_layernorm.weight)
        yield from delta(blk, m.linear_attn) if layers[i] == MAMBA else attention(blk, m.self_attn, norm=plus_one)
        yield Tensor(f"{blk}.ffn_gate_inp.weight", m.mlp.gate.weight)
        yield Tensor(f"{blk}.ffn_gate_inp_shexp.weight", m.mlp.shared_expert_gate.weight)
        yield from stacked(blk, m.mlp.experts)
        yield from mlp(blk, m.mlp.shared_expert, end="_shexp")

    return Made("qwen3next", "qwen3_next", c, keys, layer, ends=("norm", "output_norm", plus_one))


HYBRIDS = {
    "mamba2": mamba2, "jamba": jamba, "granite": granite, "bamba": bamba, "falcon_h1": falcon_h1, "lfm2": lfm2(False),
    "lfm2moe": lfm2(True), "nemotron_h": nemotron_h(False), "nemotron_h_moe": nemotron_h(True), "qwen3_next": qwen3_next,
}
