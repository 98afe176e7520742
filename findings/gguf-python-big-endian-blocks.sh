#!/usr/bin/env bash
# gguf-py writes big-endian files with little-endian scales: quantised and bfloat16 tensors come out wrong.
#
# Versions: gguf 0.19.0 (Python).
# Behaviour: GGUFWriter(endianess=BIG) turns a tensor's numbers with numpy's byteswap(). quantize() gives bytes (uint8) for every quantised type and
#   for BF16, which byteswap() leaves as they are. The package's own script gguf-convert-endian turns the scales inside the blocks.
# Seen: F32 and F16 of a file that was written as BIG equal those of the little-endian file put through gguf-convert-endian, byte for byte. Q8_0, Q4_0 and
#   BF16 are those of the little-endian file instead; read as what the file says it is, Q8_0 scales from 0.015 to 0.024 are from -1.8e3 to 1.1e4.
#   GGUFReader and dequantize() do not turn bytes either, so that Python's own round trip hides it.
# Why it matters: models converted straight for s390x or POWER (`--bigendian` with a quantised or bf16 type) answer nonsense, while
#   f32 and f16 ones are fine; converting first and turning the file afterwards is right.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages gguf==0.19.0 numpy==2.4.6

"$python" - "$work" <<'PY'
import subprocess, sys
from pathlib import Path
import numpy as np
from gguf import GGMLQuantizationType as Type, GGUFEndian, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

work = Path(sys.argv[1])
x = np.random.default_rng(0).standard_normal((4, 64)).astype(np.float32)
tensors = {"F32": (x, None), "F16": (x.astype(np.float16), None)}
for kind in (Type.Q8_0, Type.Q4_0, Type.BF16):
    tensors[kind.name] = (quantize(x, kind), kind)

def write(path, endian):
    writer = GGUFWriter(path, "mamba", endianess=endian)
    for name, (tensor, kind) in tensors.items():
        writer.add_tensor(name, tensor, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

def read(path):
    reader = GGUFReader(path)
    return reader.endianess, {tensor.name: tensor.data.tobytes() for tensor in reader.tensors}

write(work / "little.gguf", GGUFEndian.LITTLE)
write(work / "written.gguf", GGUFEndian.BIG)
write(work / "converted.gguf", GGUFEndian.LITTLE)
subprocess.run([sys.executable, "-m", "gguf.scripts.gguf_convert_endian", str(work / "converted.gguf"), "big"], input="YES\n", text=True, check=True,
               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, little = read(work / "little.gguf")
(kind, written), (other, converted) = read(work / "written.gguf"), read(work / "converted.gguf")
assert kind == other == GGUFEndian.BIG
holds = True
for name in tensors:
    right, unturned = written[name] == converted[name], written[name] == little[name]
    print(f"{name}: as gguf-convert-endian has it {right}, as in the little-endian file {unturned}")
    holds &= right == (name in ("F32", "F16")) and unturned == (not right)
scales = [np.frombuffer(written["Q8_0"], np.uint8).reshape(-1, 34)[:, :2].copy().view(order)[:, 0] for order in ("<f2", ">f2")]
print("scales of Q8_0:", scales[0], " by the file's order:", scales[1])
sys.exit(0 if holds else 1)
PY
