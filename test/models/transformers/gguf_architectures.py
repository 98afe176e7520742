"""What llama.cpp's converter writes of each architecture: keys without their prefix, tensors, what it does to their values."""
import math

import numpy as np
import torch
from random_models import VOCABULARY, draw, flips
from rwkv_reference import Rwkv6, Rwkv7

MATRICES = (24, 32, 48, 64, 160, 256, 512)


class Tensor:
    """A tensor of the file: a view of a parameter, its rows in the file's order, changed, in the file's shape."""

    def __init__(self, name, view, rows=None, shape=None, change=lambda x: x, back=lambda x: x):
        self.name, self.view, self.rows, self.change, self.back = name, view.detach(), rows, change, back
        self.shape = tuple(shape or view.shape)

    def values(self):
        ordered = self.view if self.rows is None else self.view[self.rows]
        return np.ascontiguousarray(self.change(ordered.double()).reshape(self.shape).float().numpy())

    def set(self, held):
        values = self.back(torch.from_numpy(held.astype(np.float64))).to(self.view.dtype)
        if self.rows is None:
            self.view.copy_(values.reshape(self.view.shape))
        else:
            self.view[self.rows] = values


def decay(name, view, shape=None):
    return Tensor(name, view, None, shape, lambda x: -torch.exp(x), lambda x: torch.log(-x))


def plus_one(name, view):
    return Tensor(name, view, change=lambda x: x + 1, back=lambda x: x - 1)


def pairs(name, view, width):
    """Rows of queries or keys for the rotation of neighbours: 2j + s of a head is its row s * width / 2 + j."""
    return Tensor(name, view, torch.arange(len(view)).reshape(-1, 2, width // 2).transpose(1, 2).reshape(-1))


def conv(name, view):
    return Tensor(name, view, shape=(view.shape[0], view.shape[-1]))


class Made:
    def __init__(self, arch, hf, config, keys, layer, ends=None, finish=None):
        self.arch, self.hf, self.config, self.keys = arch, hf, config, keys
        self.layer, self.ends, self.finish, self.model = layer, ends, finish, None

    def linear(self, gguf, module):
        yield Tensor(f"{gguf}.weight", module.weight)
        if getattr(module, "bias", None) is not None:
            yield Tensor(f"{gguf}.bias", module.bias)

    def tensors(self):
        base = self.model.base_model
        for i, layer in enumerate(base.layers):
            yield from self.layer(f"blk.{i}", layer, i)
        final, name, norm = self.ends or ("norm", "output_norm", Tensor)
        yield norm(f"{name}.weight", getattr(base, final).weight)
        embedding = self.model.get_input_embeddings().weight
        yield Tensor("token_embd.weight", embedding)
        if self.model.lm_head.weight is not embedding:
            yield Tensor("output.weight", self.model.lm_head.weight)
        if self.finish:
            yield from self.finish()

    def logits(self, ids):
        with torch.no_grad():
            narrow = self.model(input_ids=ids[None], use_cache=False).logits[0]
            return narrow, self.model.double()(input_ids=ids[None], use_cache=False).logits[0]


def maybe(r, key, value, standard):
    """The key, which may be left out where the value is what llama.cpp takes without it."""
    return {key: value} if value != standard or r.random() < 0.5 else {}


def heads(r, wide=True):
    """Sizes of attention; wide: heads that need not fill the width of the model."""
    width, head = r.choice((32, 64, 96, 128, 256, 512)), r.choice((8, 16, 32))
    count = r.choice([n for n in (1, 2, 3, 4, 8) if width % n == 0]) if wide else width // head
    shared = r.choice([n for n in (1, 2, 4, count) if count % n == 0])
    return dict(hidden_size=width, head_dim=head, num_attention_heads=count, num_key_value_heads=shared,
                intermediate_size=r.choice(MATRICES), num_hidden_layers=r.choice((2, 3)), hidden_act="silu",
                rms_norm_eps=r.choice((1e-6, 1e-5, 1e-3)), max_position_embeddings=r.choice((128, 4096)),
                pad_token_id=None, bos_token_id=None, eos_token_id=None, **flips(r, "tie_word_embeddings"))


def head_keys(r, c, kv=None, epsilon="attention.layer_norm_rms_epsilon"):
    head = c["hidden_size"] // c["num_attention_heads"]
    own = c.get("head_dim", head)
    return {"block_count": c["num_hidden_layers"], "embedding_length": c["hidden_size"],
            "context_length": c["max_position_embeddings"], "feed_forward_length": c["intermediate_size"],
            "attention.head_count": c["num_attention_heads"], epsilon: c["rms_norm_eps"],
            **(maybe(r, "attention.head_count_kv", c["num_key_value_heads"], c["num_attention_heads"]) if kv is None
               else {"attention.head_count_kv": kv}),
            **maybe(r, "attention.key_length", own, head), **maybe(r, "attention.value_length", own, head)}


def divisors(width, rope):
    """Of the frequencies, by Llama 3's rule."""
    frequencies = rope["rope_theta"] ** -(torch.arange(0, width, 2, dtype=torch.float64) / width)
    waves = 2 * math.pi / frequencies
    low, high = (rope["original_max_position_embeddings"] / rope[f"{end}_freq_factor"] for end in ("low", "high"))
    smooth = ((rope["original_max_position_embeddings"] / waves - rope["low_freq_factor"])
              / (rope["high_freq_factor"] - rope["low_freq_factor"]))
    between = 1 / ((1 - smooth) / rope["factor"] + smooth)
    return torch.where(waves < high, 1.0, torch.where(waves > low, rope["factor"], between))


def rotation(r, width, kinds=("default", "linear", "yarn", "llama3"), standard=1e4):
    """rope_parameters, its keys, and a tensor where the kind has one."""
    kind = r.choice(kinds)
    rope = dict(rope_type=kind, rope_theta=r.choice((standard, 5e5, 100.0)))
    keys = maybe(r, "rope.freq_base", rope["rope_theta"], standard)
    keys.update(maybe(r, "rope.dimension_count", width, width))
    if kind == "default":
        keys.update(r.choice(({}, {"rope.scaling.type": "none"}, {"rope.scaling.factor": 1.0})))
    if kind == "linear":
        rope.update(factor=2.5)
        keys.update({"rope.scaling.type": "linear", "rope.scaling.factor": 2.5})
    if kind == "yarn":
        rope.update(factor=4.0, original_max_position_embeddings=16)
        keys.update({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 16})
    if kind == "llama3":
        rope.update(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    of = lambda: [Tensor("rope_freqs.weight", divisors(width, rope).float())] if kind == "llama3" else []
    return dict(rope_parameters=rope), keys, of


def llama_type(hf, arch="llama"):
    def drawn(r):
        c = heads(r)
        more, rope, finish = rotation(r, c["head_dim"])
        c.update(more)
        if hf == "llama":
            c.update(flips(r, "attention_bias", "mlp_bias"))
        if hf == "mistral":
            c.update(sliding_window=None)
        keys = {**head_keys(r, c), **rope}
        if hf == "mixtral":
            c.update(num_local_experts=r.choice((3, 4)), num_experts_per_tok=2, sliding_window=None)
            keys.update({"expert_count": c["num_local_experts"], "expert_used_count": 2})
        return Made(arch, hf, c, keys, layer, finish=finish)

    def layer(blk, m, i):
        made, width = Made.linear, m.self_attn.head_dim
        yield Tensor(f"{blk}.attn_norm.weight", m.input_layernorm.weight)
        yield Tensor(f"{blk}.ffn_norm.weight", m.post_attention_layernorm.weight)
        for x in "qk":
            for t in made(None, f"{blk}.attn_{x}", getattr(m.self_attn, f"{x}_proj")):
                yield pairs(t.name, t.view, width)
        yield from made(None, f"{blk}.attn_v", m.self_attn.v_proj)
        yield from made(None, f"{blk}.attn_output", m.self_attn.o_proj)
        if hf == "mixtral":
            yield Tensor(f"{blk}.ffn_gate_inp.weight", m.mlp.gate.weight)
            yield from stacked(blk, m.mlp.experts)
        else:
            for x in ("gate", "up", "down"):
                yield from made(None, f"{blk}.ffn_{x}", getattr(m.mlp, f"{x}_proj"))

    return drawn


def stacked(blk, experts):
    if hasattr(experts, "gate_up_proj"):
        half = experts.gate_up_proj.shape[1] // 2
        yield Tensor(f"{blk}.ffn_gate_exps.weight", experts.gate_up_proj[:, :half])
        yield Tensor(f"{blk}.ffn_up_exps.weight", experts.gate_up_proj[:, half:])
    else:
        yield Tensor(f"{blk}.ffn_up_exps.weight", experts.up_proj)
    yield Tensor(f"{blk}.ffn_down_exps.weight", experts.down_proj)


def attention(blk, a, out="o_proj", norms=("q_norm", "k_norm"), norm=Tensor):
    """Rows as they are."""
    for x, module in (("q", "q_proj"), ("k", "k_proj"), ("v", "v_proj"), ("output", out)):
        yield from Made.linear(None, f"{blk}.attn_{x}", getattr(a, module))
    for x, module in zip("qk", norms):
        if hasattr(a, module):
            yield norm(f"{blk}.attn_{x}_norm.weight", getattr(a, module).weight)


def mlp(blk, m, names=("gate_proj", "up_proj", "down_proj"), end=""):
    for x, module in zip(("gate", "up", "down"), names):
        yield from Made.linear(None, f"{blk}.ffn_{x}{end}", getattr(m, module))


def decoder(hf, arch, config, norms, norm=Tensor, rope_kinds=("default", "linear", "yarn"), standard=1e4):
    """Plain Transformers with Hugging Face's order of rows; config: what is added to both."""

    def drawn(r):
        c = heads(r, hf not in ("qwen2", "olmo2", "phi3"))
        more, rope, _ = rotation(r, c["head_dim"], rope_kinds, standard)
        c.update(more)
        own, keys = config(r, c)
        c.update(own)
        if hf in ("qwen2", "olmo2", "phi3"):
            del c["head_dim"]
        if hf in ("olmo2",):
            c["tie_word_embeddings"] = False
        return Made(arch, hf, c, {**head_keys(r, c), **rope, **keys}, layer, ends=("norm", "output_norm", norm))

    def layer(blk, m, i):
        for name, module in norms.items():
            yield norm(f"{blk}.{name}.weight", getattr(m, module).weight)
        if hf == "phi3":
            yield Tensor(f"{blk}.attn_qkv.weight", m.self_attn.qkv_proj.weight)
            yield Tensor(f"{blk}.attn_output.weight", m.self_attn.o_proj.weight)
            yield Tensor(f"{blk}.ffn_up.weight", m.mlp.gate_up_proj.weight)
            yield Tensor(f"{blk}.ffn_down.weight", m.mlp.down_proj.weight)
        else:
            yield from attention(blk, m.self_attn, norm=norm)
            yield from mlp(blk, m.mlp)

    return drawn


def gemma2(r, c):
    caps = dict(attn_logit_softcapping=r.choice((50.0, 5.0)), final_logit_softcapping=r.choice((30.0, 10.0)))
    window = r.choice((5, 4096))
    c.update(hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=c["head_dim"], sliding_window=window,
             tie_word_embeddings=True,
             layer_types=[("sliding", "full")[i % 2] + "_attention" for i in range(c["num_hidden_layers"])])
    return caps, {**maybe(r, "attn_logit_softcapping", caps["attn_logit_softcapping"], 50.0),
                  **maybe(r, "final_logit_softcapping", caps["final_logit_softcapping"], 30.0),
                  **maybe(r, "attention.sliding_window", window, 4096)}


def gemma3(r, c):
    c["num_hidden_layers"] = r.choice((2, 6, 7))
    local, full = r.choice((1e4, 100.0)), c.pop("rope_parameters")
    c.update(hidden_activation="gelu_pytorch_tanh", query_pre_attn_scalar=c["head_dim"], sliding_window=5,
             tie_word_embeddings=True, rope_parameters=dict(
                 full_attention=full, sliding_attention=dict(rope_type="default", rope_theta=local)),
             layer_types=["full_attention" if i % 6 == 5 else "sliding_attention" for i in range(c["num_hidden_layers"])])
    return {}, {"attention.sliding_window": 5, **maybe(r, "rope.freq_base_swa", local, 1e4)}


def phi3(r, c):
    share = r.choice((1.0, 0.5))
    c["rope_parameters"]["partial_rotary_factor"] = share
    window = r.choice((None, 5))
    c.update(sliding_window=window)
    keys = {"attention.sliding_window": window or 0} if window or c["max_position_embeddings"] == 4096 else {}
    return {}, {**keys, "rope.dimension_count": int(c["head_dim"] * share)}


BEFORE = dict(attn_norm="input_layernorm", ffn_norm="post_attention_layernorm")
BEHIND = dict(post_attention_norm="post_attention_layernorm", post_ffw_norm="post_feedforward_layernorm")
GEMMA = dict(attn_norm="input_layernorm", ffn_norm="pre_feedforward_layernorm", **BEHIND)


def mamba(hf):
    def drawn(r):
        width, rank, falcon = r.choice((32, 48, 64, 128, 256)), r.choice((2, 16, 32, 48)), hf == "falcon_mamba"
        eps = r.choice((1e-5, 1e-3))
        c = dict(hidden_size=width, state_size=r.choice((1, 4, 16)), num_hidden_layers=r.choice((2, 3)), expand=2,
                 conv_kernel=r.choice((2, 3, 4)), time_step_rank=rank, layer_norm_epsilon=eps, hidden_act="silu",
                 **flips(r, "use_bias", "tie_word_embeddings"), use_conv_bias=r.random() < 0.8)
        if falcon:
            c.update(mixer_rms_eps=eps)
        keys = {"block_count": c["num_hidden_layers"], "context_length": 2**20, "embedding_length": width,
                "feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": c["conv_kernel"],
                "ssm.inner_size": 2 * width, "ssm.state_size": c["state_size"], "ssm.time_step_rank": rank,
                "attention.layer_norm_rms_epsilon": eps, **maybe(r, "ssm.dt_b_c_rms", falcon, False)}
        return Made("mamba", hf, c, keys, layer, ends=("norm_f", "output_norm", Tensor))

    def layer(blk, m, i):
        yield Tensor(f"{blk}.attn_norm.weight", m.norm.weight)
        if hf == "falcon_mamba":  # the file has none of these
            for x in ("dt", "b", "c"):
                getattr(m.mixer, f"{x}_layernorm").weight.data.fill_(1)
        yield from mamba_mixer(blk, m.mixer)

    return drawn


def mamba_mixer(blk, m):
    yield from Made.linear(None, f"{blk}.ssm_in", m.in_proj)
    yield conv(f"{blk}.ssm_conv1d.weight", m.conv1d.weight)
    if m.conv1d.bias is not None:
        yield Tensor(f"{blk}.ssm_conv1d.bias", m.conv1d.bias)
    yield Tensor(f"{blk}.ssm_x.weight", m.x_proj.weight)
    yield from Made.linear(None, f"{blk}.ssm_dt", m.dt_proj)
    yield decay(f"{blk}.ssm_a", m.A_log)
    yield Tensor(f"{blk}.ssm_d", m.D)
    yield from Made.linear(None, f"{blk}.ssm_out", m.out_proj)


ARCHITECTURES = {}


def rwkv(version):
    def drawn(r):
        head, layers, every = r.choice((16, 32, 64)), r.choice((2, 3, 5)), r.choice((0, 2, 6))
        width, ff = head * r.choice((1, 2, 3)), r.choice((64, 160, 256))
        rank = lambda: r.choice((8, 32, 48))
        t = {"token_embd.weight": (VOCABULARY, width), "output.weight": (VOCABULARY, width)}
        norm = lambda name: {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        t.update({**norm("token_embd_norm"), **norm("output_norm")})
        for i in range(layers):
            blk = f"blk.{i}"
            t.update({**norm(f"{blk}.attn_norm"), **norm(f"{blk}.attn_norm_2"), **norm(f"{blk}.time_mix_ln")})
            mix = {x: (width, width) for x in ("receptance", "key", "value", "output")}
            if version == 6:
                low, slow = rank(), rank()
                mix.update(gate=(width, width), lerp_x=(width,), lerp_fused=(5, 1, 1, width), w1=(5 * low, width),
                           w2=(5, width, low), decay=(width,), decay_w1=(slow, width), decay_w2=(width, slow),
                           first=(width // head, head))
                channel = dict(lerp_k=(width,), lerp_r=(width,), key=(ff, width), receptance=(width, width), value=(width, ff))
            else:
                mix.update(lerp_fused=(6, 1, 1, width), k_k=(width,), k_a=(width,), r_k=(width,))
                for x in "wavg":
                    low = rank()
                    mix.update({f"{x}1": (low, width), f"{x}2": (width, low)}, **({f"{x}0": (width,)} if x != "g" else {}))
                if i == 0:  # copies that nothing reads
                    mix.update({f"v{n}": mix[f"a{n}"] for n in (0, 1, 2)})
                channel = dict(lerp_k=(width,), key=(ff, width), value=(width, ff))
            t.update({f"{blk}.time_mix_{x}.weight": shape for x, shape in mix.items()})
            t.update({f"{blk}.channel_mix_{x}.weight": shape for x, shape in channel.items()})
        keys = {"block_count": layers, "context_length": 2**20, "embedding_length": width, "feed_forward_length": ff,
                "attention.head_count": 0, "attention.layer_norm_epsilon": r.choice((1e-5, 1e-3)), "wkv.head_size": head}
        if version == 6:
            keys.update({**maybe(r, "rescale_every_n_layers", every, 0), "time_mix_extra_dim": 32, "time_decay_extra_dim": 64})
        return RwkvMade(f"rwkv{version}", t, keys, every if version == 6 else 0)

    return drawn


class RwkvMade:
    hf = model = None
    config = {}

    def __init__(self, arch, shapes, keys, every):
        self.arch, self.keys, self.every = arch, keys, every
        parameters = {name: torch.nn.Parameter(torch.zeros(shape)) for name, shape in shapes.items()}
        draw(Named(parameters), 1 + sum(len(name) * i for i, name in enumerate(shapes)))
        for name, p in parameters.items():
            if name.endswith("ln.weight"):
                p.data.add_(1)
            if name.endswith(("decay.weight", "w0.weight")):
                p.data.mul_(0.5).sub_(0.5 if "decay" in name else 0)
        self.held = {name: p.data for name, p in parameters.items()}

    def tensors(self):
        return [Tensor(name, values) for name, values in self.held.items()]

    def logits(self, ids):
        kind = Rwkv6 if self.arch == "rwkv6" else Rwkv7
        layers, head, eps = (self.keys[k] for k in ("block_count", "wkv.head_size", "attention.layer_norm_epsilon"))
        with torch.no_grad():
            return [kind({name: v.to(dtype) for name, v in self.held.items()}, layers, head, eps, self.every).logits(ids)
                    for dtype in (torch.float32, torch.float64)]


class Named(torch.nn.Module):
    """Parameters under names with dots."""

    def __init__(self, parameters):
        super().__init__()
        self.parameters_by_name = parameters

    def named_parameters(self, *_, **__):
        return self.parameters_by_name.items()


ARCHITECTURES.update({
    "llama": llama_type("llama"), "mistral": llama_type("mistral"), "mixtral": llama_type("mixtral"),
    "qwen2": decoder("qwen2", "qwen2", lambda r, c: ({}, {}), BEFORE),
    "qwen3": decoder("qwen3", "qwen3", lambda r, c: (flips(r, "attention_bias"), {}), BEFORE),
    "olmo2": decoder("olmo2", "olmo2", lambda r, c: ({}, {}), BEHIND),
    "phi3": decoder("phi3", "phi3", phi3, BEFORE, rope_kinds=("default",)),
    "gemma2": decoder("gemma2", "gemma2", gemma2, GEMMA, norm=plus_one, rope_kinds=("default",)),
    "gemma3": decoder("gemma3_text", "gemma3", gemma3, GEMMA, norm=plus_one, rope_kinds=("default", "linear"), standard=1e6),
    "mamba": mamba("mamba"), "falcon_mamba": mamba("falcon_mamba"),
    "rwkv6": rwkv(6), "rwkv7": rwkv(7),
})
