"""Writes a random-weight GGUF file of a model by its Hugging Face config, for llama.cpp: same shapes, same sizes.

usage: make_gguf.py CONFIG.json NAME f32|f16|bf16|q8_0|q4_0 OUT.gguf      (NAME: a key of the JSON file)
"""
import json
import os
import sys

import gguf
import numpy as np

TYPES = {"f32": ("F32", "ALL_F32"), "f16": ("F16", "MOSTLY_F16"), "bf16": ("BF16", "MOSTLY_BF16"),
         "q8_0": ("Q8_0", "MOSTLY_Q8_0"), "q4_0": ("Q4_0", "MOSTLY_Q4_0")}
BLOCK = 32
random = np.random.default_rng(0)


def matrix(rows, columns):
    return random.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(columns))


def ones(*shape):
    return np.ones(shape, np.float32)


def attention(c, prefix):
    width = c["hidden_size"]
    keys = width // c["num_attention_heads"] * c["num_key_value_heads"]
    return {f"{prefix}attn_q.weight": matrix(width, width), f"{prefix}attn_k.weight": matrix(keys, width),
            f"{prefix}attn_v.weight": matrix(keys, width), f"{prefix}attn_output.weight": matrix(width, width)}


def mamba(width, inner, states, rank, conv, prefix, norms):
    t = {f"{prefix}ssm_in.weight": matrix(2 * inner, width), f"{prefix}ssm_conv1d.weight": matrix(inner, conv),
         f"{prefix}ssm_conv1d.bias": np.zeros(inner, np.float32), f"{prefix}ssm_x.weight": matrix(rank + 2 * states, inner),
         f"{prefix}ssm_dt.weight": matrix(inner, rank), f"{prefix}ssm_dt.bias": np.full(inner, -4, np.float32),
         f"{prefix}ssm_a": -np.tile(np.arange(1, states + 1, dtype=np.float32), (inner, 1)),
         f"{prefix}ssm_d": ones(inner), f"{prefix}ssm_out.weight": matrix(width, inner)}
    if norms:
        t |= {f"{prefix}ssm_dt_norm.weight": ones(rank), f"{prefix}ssm_b_norm.weight": ones(states),
              f"{prefix}ssm_c_norm.weight": ones(states)}
    return t


def mamba2(c, prefix):
    width, states, heads, groups = c["hidden_size"], c["state_size"], c["num_heads"], c["n_groups"]
    inner = c["expand"] * width
    mixed = inner + 2 * groups * states
    return {f"{prefix}ssm_in.weight": matrix(inner + mixed + heads, width),
            f"{prefix}ssm_conv1d.weight": matrix(mixed, c["conv_kernel"]),
            f"{prefix}ssm_conv1d.bias": np.zeros(mixed, np.float32), f"{prefix}ssm_dt.bias": np.full(heads, -4, np.float32),
            f"{prefix}ssm_a": np.full((heads, 1), -2, np.float32), f"{prefix}ssm_d": ones(heads, 1),
            f"{prefix}ssm_norm.weight": ones(groups, inner // groups), f"{prefix}ssm_out.weight": matrix(width, inner)}


def mlp(c, prefix):
    width, wide = c["hidden_size"], c["intermediate_size"]
    return {f"{prefix}ffn_gate.weight": matrix(wide, width), f"{prefix}ffn_up.weight": matrix(wide, width),
            f"{prefix}ffn_down.weight": matrix(width, wide)}


def experts(c, prefix):
    width, wide, count = c["hidden_size"], c["intermediate_size"], c["num_experts"]
    return {f"{prefix}ffn_gate_inp.weight": matrix(count, width),
            f"{prefix}ffn_gate_exps.weight": matrix(count * wide, width).reshape(count, wide, width),
            f"{prefix}ffn_up_exps.weight": matrix(count * wide, width).reshape(count, wide, width),
            f"{prefix}ffn_down_exps.weight": matrix(count * width, wide).reshape(count, width, wide)}


def at(c, i, kind):
    return i % c[f"{kind}_layer_period"] == c[f"{kind}_layer_offset"]


def block(c, i):
    prefix, kind = f"blk.{i}.", c["model_type"]
    t = {f"{prefix}attn_norm.weight": ones(c["hidden_size"])}
    if kind == "mamba":
        inner = c["expand"] * c["hidden_size"]
        return t | mamba(c["hidden_size"], inner, c["state_size"], c["time_step_rank"], c["conv_kernel"], prefix, False)
    if kind == "mamba2":
        return t | mamba2(c, prefix)
    t[f"{prefix}ffn_norm.weight"] = ones(c["hidden_size"])
    if kind == "llama":
        return t | attention(c, prefix) | mlp(c, prefix)
    inner = c["mamba_expand"] * c["hidden_size"]
    mixer = attention(c, prefix) if at(c, i, "attn") else mamba(
        c["hidden_size"], inner, c["mamba_d_state"], c["mamba_dt_rank"], c["mamba_d_conv"], prefix, True)
    return t | mixer | (experts(c, prefix) if at(c, i, "expert") else mlp(c, prefix))


def describe(w, c):
    layers = c["num_hidden_layers"]
    w.add_name("random weights")
    w.add_context_length(c.get("max_position_embeddings", 1 << 20))
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(layers)
    w.add_vocab_size(c["vocab_size"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_feed_forward_length(c.get("intermediate_size", 0))
    kind = c["model_type"]
    if kind in ("mamba", "mamba2"):
        w.add_head_count(0)
        w.add_ssm_conv_kernel(c["conv_kernel"])
        w.add_ssm_inner_size(c["expand"] * c["hidden_size"])
        w.add_ssm_state_size(c["state_size"])
        w.add_ssm_time_step_rank(c["time_step_rank"] if kind == "mamba" else c["num_heads"])
        if kind == "mamba2":
            w.add_ssm_group_count(c["n_groups"])
        return
    w.add_head_count(c["num_attention_heads"])
    if kind == "llama":
        w.add_head_count_kv(c["num_key_value_heads"])
        w.add_rope_dimension_count(c["hidden_size"] // c["num_attention_heads"])
        w.add_rope_freq_base(10000.0)
        return
    w.add_head_count_kv([c["num_key_value_heads"] if at(c, i, "attn") else 0 for i in range(layers)])
    w.add_ssm_conv_kernel(c["mamba_d_conv"])
    w.add_ssm_inner_size(c["mamba_expand"] * c["hidden_size"])
    w.add_ssm_state_size(c["mamba_d_state"])
    w.add_ssm_time_step_rank(c["mamba_dt_rank"])
    w.add_expert_count(c["num_experts"])
    w.add_expert_used_count(c["num_experts_per_tok"])


def vocabulary(w, size):
    """A tokenizer of the right size: llama.cpp loads no model without one."""
    letters = [chr(code) for code in range(33, 127)]
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list(letters + [f"<{i}>" for i in range(size - len(letters))])
    w.add_token_types([1] * size)
    w.add_token_merges(["a b"])
    w.add_bos_token_id(0)
    w.add_eos_token_id(size - 1)
    w.add_add_bos_token(False)


def quantised(name, array):
    kept = ("norm", "conv1d", "ffn_gate_inp", "bias")
    return array.ndim >= 2 and not any(k in name for k in kept) and not name.endswith((".ssm_a", ".ssm_d"))


def main(configs, name, dtype, out):
    with open(configs, encoding="utf8") as file:
        c = json.load(file)[name]
    kind, file_type = TYPES[dtype]
    kind = gguf.GGMLQuantizationType[kind]
    w = gguf.GGUFWriter(out + ".part", c["model_type"])
    describe(w, c)
    vocabulary(w, c["vocab_size"])
    w.add_file_type(gguf.LlamaFileType[file_type])
    w.add_quantization_version(2)
    weights = {"token_embd.weight": matrix(c["vocab_size"], c["hidden_size"]), "output_norm.weight": ones(c["hidden_size"])}
    for i in range(c["num_hidden_layers"]):
        weights |= block(c, i)
    f32, f16 = gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16
    for key, array in weights.items():
        to = kind if quantised(key, array) else f32
        if to.name in ("Q8_0", "Q4_0") and array.shape[-1] % BLOCK:
            to = f16
        w.add_tensor(key, array if to == f32 else gguf.quants.quantize(array, to), raw_dtype=to)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(out + ".part", out)


main(*sys.argv[1:])
