"""Rows of blocks of every type of GGUF files: values encoded by gguf-py where it can, else random codes with scales that give
the values the spread that is asked for; and what gguf-py decodes them to."""
from enum import IntEnum

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

ENCODED = {Type.Q8_0, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.TQ1_0, Type.TQ2_0, Type.MXFP4}
# Where the halves of a block lie that scale its values, and the one that is subtracted, as a multiple of the scale.
SCALES = {Type.Q8_0: (0,), Type.Q4_0: (0,), Type.Q4_1: (0, 2, -7.5), Type.Q5_0: (0,), Type.Q5_1: (0, 2, -15.5),
          Type.Q2_K: (80, 82, 1.5), Type.Q3_K: (108,), Type.Q4_K: (0, 2, 7.5), Type.Q5_K: (0, 2, 15.5), Type.Q6_K: (208,),
          Type.IQ2_XXS: (0,), Type.IQ2_XS: (0,), Type.IQ2_S: (0,), Type.IQ3_XXS: (0,), Type.IQ3_S: (0,), Type.IQ1_S: (0,),
          Type.IQ4_NL: (0,), Type.IQ4_XS: (0,), Type.TQ1_0: (52,), Type.TQ2_0: (64,)}


class Later(IntEnum):
    """Types that gguf-py does not know."""

    Q1_0 = 41
    Q2_0 = 42


PLAIN = {"Q1_0": (128, 1), "Q2_0": (64, 2)}  # values in a block, bits of a code
GGML_QUANT_SIZES.update({Later[name]: (block, 2 + block * bits // 8) for name, (block, bits) in PLAIN.items()})
QUANTISED = [*(t.name for t in (*SCALES, Type.IQ1_M, Type.MXFP4, Type.NVFP4)), *PLAIN]
WIDE = ["F32", "F16", "BF16"]


def type_of(name):
    return Later[name] if name in PLAIN else Type[name]


def block_of(name):
    return GGML_QUANT_SIZES[type_of(name)][0]


def decoded(data, name):
    if name in WIDE:
        return data.view(np.float32) if name == "F32" else dequantize(data.view(np.uint8), Type[name])
    if name not in PLAIN:
        return dequantize(data, Type[name])
    block, bits = PLAIN[name]
    rows = data.reshape(-1, 2 + block * bits // 8)
    scale = rows[:, :2].copy().view(np.float16).astype(np.float32)
    codes = np.unpackbits(rows[:, 2:], axis=1, bitorder="little").reshape(len(rows), block, bits)
    codes = codes @ (1 << np.arange(bits)).astype(np.int32)
    values = (2 * codes - 1 if bits == 1 else codes - 1) * scale
    return values.astype(np.float32).reshape(*data.shape[:-1], -1)


def halves(x):
    return x.astype(np.float16).reshape(-1, 1).view(np.uint8)


def scaled(blocks, name, scales):
    """The blocks with these scales, one each."""
    if name == "IQ1_M":  # the top nibbles of four words, lowest first
        half = scales.astype(np.float16).view(np.uint16)
        for i in range(4):
            blocks[:, 49 + 2 * i] = blocks[:, 49 + 2 * i] & 15 | (half >> 4 * i & 15).astype(np.uint8) << 4
    elif name == "MXFP4":
        blocks[:, 0] = np.clip(np.floor(np.log2(np.abs(scales) + 1e-30)) + 128, 0, 254)
    elif name == "NVFP4":  # exponents of 4 bits, mantissas of 3
        exponents = np.clip(np.floor(np.log2(np.abs(scales) + 1e-30)) + 8, 0, 14).astype(np.uint8)
        blocks[:, :4] = exponents[:, None] << 3 | blocks[:, :4] & 7
    else:
        at, *minimum = SCALES[Type[name]] if name not in PLAIN else (0,)
        blocks[:, at:at + 2] = halves(scales)
        if minimum:
            blocks[:, minimum[0]:minimum[0] + 2] = halves(scales * minimum[1])
    return blocks


def drawn(values, name, spread, rng):
    """The bytes of rows of that type, and their values: near `values` or, where they cannot be encoded, of that spread."""
    if name in WIDE:
        data = values.astype(np.float32) if name == "F32" else quantize(values.astype(np.float32), Type[name])
        return data, decoded(data, name)
    if name not in PLAIN and Type[name] in ENCODED and rng.random() < 0.5:
        data = quantize(np.ascontiguousarray(values, np.float32), Type[name])
        return data, decoded(data, name)
    block, size = GGML_QUANT_SIZES[type_of(name)]
    count = values.size // block
    blocks = rng.integers(0, 256, (count, size), dtype=np.uint8)
    scales = rng.uniform(0.5, 1.5, count) * rng.choice((-1, 1), count)
    spread_of_one = decoded(scaled(blocks.copy(), name, scales), name).std()
    data = scaled(blocks, name, scales * spread / spread_of_one)
    data = data.reshape(*values.shape[:-1], -1)
    return data, decoded(data, name)
