"""GGUF files of random models, written with gguf-py as llama.cpp's converter writes them, and the logits of transformers on
the weights that they hold (of RWKV: of rwkv_reference.py).

python random_ggufs.py FOLDER SEED COUNT [architecture ...]
  FOLDER/ARCHITECTURE-SEED.gguf, or the parts of a split file, and FOLDER/ARCHITECTURE-SEED.safetensors: input_ids, the
  logits of one full forward in f64 (`logits`) and in f32 (`logits_f32`); the tensors' types as metadata.

torch 2.13 (CPU), transformers 5.18, gguf 0.19.
"""
import json
import random
import sys
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from gguf import GGUFWriter
from gguf_architectures import ARCHITECTURES
from gguf_blocks import QUANTISED, WIDE, block_of, drawn, type_of
from gguf_hybrids import HYBRIDS
from random_models import LENGTHS, VOCABULARY, draw
from safetensors.torch import save_file
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

# Always F32, as in the converter: what has one axis, and these.
KEPT = ("_norm.weight", "ssm_conv1d.weight", "shortconv.conv.weight", "ffn_gate_inp.weight", "ffn_gate_inp_shexp.weight",
        "time_mix_first.weight", "time_mix_w1.weight", "time_mix_w2.weight", "time_mix_decay_w1.weight",
        "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight")

ALL = {**ARCHITECTURES, **HYBRIDS}


class Types:
    """Which type each tensor of a file gets: one, one with others where it does not fit, or any."""

    def __init__(self, r):
        self.r = r
        self.main = r.choice((*WIDE, "mixed", "mixed", "mixed", *QUANTISED))

    def of(self, name, shape):
        if len(shape) == 1 or not name.endswith(".weight") or name.endswith(KEPT):
            return "F32"
        fitting = [t for t in QUANTISED if shape[-1] % block_of(t) == 0]
        if self.main == "mixed":
            return self.r.choice(fitting + WIDE)
        if self.main in WIDE or self.main in fitting:
            return self.main
        return self.r.choice([t for t in fitting if block_of(t) == 32] or ["F16"])


def add_pair(writer, key, value):
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def add_noise(writer, r, arch):
    """Keys that nobody asks for."""
    noise = [lambda: writer.add_string("general.name", r.choice(("", "é 模型", "x" * 300))),
             lambda: writer.add_uint64("general.parameter_count", 2**53 + 1), lambda: writer.add_float64("other.f64", -0.0),
             lambda: writer.add_array("general.tags", ["a", "", "β"]), lambda: writer.add_int8("other.i8", -1),
             lambda: writer.add_array("other.numbers", list(range(r.randrange(1, 300)))),
             lambda: writer.add_uint32("general.file_type", r.randrange(40)), lambda: writer.add_bool(f"{arch}.other", True),
             lambda: writer.add_uint32("general.quantization_version", 2), lambda: writer.add_type("model"),
             lambda: writer.add_array("other.floats", [1.5, 2.5]), lambda: writer.add_int64("other.i64", -(2**60))]
    for add in r.sample(noise, r.randrange(len(noise))):
        add()


def add_vocabulary(writer, r, arch):
    if r.random() < 0.5:
        writer.add_tokenizer_model("none")
    if r.random() < 0.5:
        writer.add_vocab_size(VOCABULARY)
    if r.random() < 0.3:  # as long as the converter pads it, which may be longer than the embedding
        writer.add_token_list([f"[PAD{i}]" for i in range(VOCABULARY + r.choice((0, 8)))])


def write(path, r, arch, keys, tensors):
    """tensors: (name, bytes, type) each, in the order of the file; returns nothing."""
    split = r.choice((0, 0, max(1, len(tensors) // r.randrange(2, 5))))
    writer = GGUFWriter(path, arch, split_max_tensors=split, small_first_shard=split > 0 and r.random() < 0.3)
    alignment = r.choice((32, 32, 64, 128))
    if alignment != 32 or r.random() < 0.2:
        writer.add_custom_alignment(alignment)
    pairs = [*keys.items()]
    r.shuffle(pairs)
    for key, value in pairs:
        add_pair(writer, f"{arch}.{key}", value)
    add_noise(writer, r, arch)
    add_vocabulary(writer, r, arch)
    for name, data, kind in tensors:
        writer.add_tensor(name, data, raw_dtype=type_of(kind) if data.dtype == np.uint8 else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make(name, seed, folder):
    r = random.Random(f"{name} {seed}")
    rng = np.random.default_rng(zlib.crc32(f"{name} {seed}".encode()))
    torch.manual_seed(seed)
    made = ALL[name](r)
    if made.hf:
        config = CONFIG_MAPPING[made.hf](vocab_size=VOCABULARY, **made.config)
        config._attn_implementation = config._experts_implementation = "eager"
        made.model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        draw(made.model, seed)
        made.model.tie_weights()
    types, stored, kinds = Types(r), [], {}
    for tensor in made.tensors():
        kind = types.of(tensor.name, tensor.shape)
        values = tensor.values()
        data, held = drawn(values, kind, float(values.std()) or 1.0, rng)
        tensor.set(held)
        stored.append((tensor.name, data, kind))
        kinds[tensor.name] = kind
    r.shuffle(stored)
    write(Path(folder) / f"{name}-{seed}.gguf", r, made.arch, made.keys, stored)
    ids = torch.tensor([r.randrange(VOCABULARY) for _ in range(r.choice(LENGTHS))])
    narrow, wide = made.logits(ids)
    results = dict(input_ids=ids.int(), logits=wide.float().contiguous(), logits_f32=narrow.float().contiguous())
    metadata = dict(types=json.dumps(kinds), keys=json.dumps(made.keys), hf=made.hf or "", config=json.dumps(made.config))
    save_file(results, Path(folder) / f"{name}-{seed}.safetensors", metadata=metadata)


def main(folder, seed, count, *names):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name in names or ALL:
        for i in range(int(count)):
            make(name, int(seed) + i, folder)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    main(*sys.argv[1:])
