#!/usr/bin/env bash
# numpy with ml_dtypes: the sum of bfloat16 stops at 256, so that 10,000 ones have the mean 0.026 and weights of a safetensors file a std of 0.69 for 0.99; sort() leaves all unsorted around a NaN.
#
# Versions: ml_dtypes 0.6.0, numpy 2.4.6, safetensors 0.8.0; jax 0.10.2 and torch 2.13.0 to compare.
# Behaviour: numpy adds the types of ml_dtypes one by one in the type itself: sum, mean, std, var and cumsum, along any axis. 256 + 1 is 256 in bfloat16, 16 + 1 is 16 in float8_e4m3fn. Its own float16 it adds in pairs and in floats (but cumsum, which
#   stops at 2,048). Products of matrices are right. jax, torch and ml_dtypes' arrays after astype(float32) are right.
# Seen: 10,000 ones: bfloat16 256, float8_e4m3fn 16, float8_e5m2 8, float16 10,000; jax and torch in bfloat16 9,984. 4,096 normal numbers that safetensors.numpy loads as bfloat16: std 0.69, mean of squares 0.48, by torch 0.99 and 0.99. Columns of ones (1000, 3): 256 each.
#   Sorted [3, NaN, 1, 2]: unchanged in bfloat16, [1, 2, 3, NaN] in float16.
# Why it matters: safetensors and GGUF readers hand bfloat16 weights to numpy in this type. Checks, scales for quantisation and averages of checkpoints made of them are wrong without a word, the more so the larger a tensor is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 numpy==2.4.6 ml_dtypes==0.6.0 safetensors==0.8.0 jax==0.10.2 jaxlib==0.10.2

JAX_PLATFORMS=cpu "$python" - "$work/weights.safetensors" <<'PY'
import sys
import jax.numpy as jnp, ml_dtypes, numpy as np, torch
from safetensors.numpy import load_file
from safetensors.torch import save_file

ones = {}
for dtype in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2):
    x = np.ones(10_000).astype(dtype)
    ones[np.dtype(dtype).name] = float(x.sum()), float(x.mean()), float(np.cumsum(x)[-1]), float(np.ones((1000, 3)).astype(dtype).sum(0)[0]), float((x[None, :2000] @ x[:2000, None])[0, 0])
    print(np.dtype(dtype).name, dict(zip(("sum", "mean", "cumsum", "sum of a column of 1000", "2000 ones times 2000 ones"), ones[np.dtype(dtype).name])))
by_jax, by_torch = float(jnp.ones(10_000, jnp.bfloat16).sum()), float(torch.ones(10_000, dtype=torch.bfloat16).sum())
print(f"bfloat16 sum by jax {by_jax}, by torch {by_torch}")

torch.manual_seed(0)
weights = torch.randn(4096).to(torch.bfloat16)
save_file({"w": weights}, sys.argv[1])
loaded = load_file(sys.argv[1])["w"]
spread = float(loaded.std()), float((loaded * loaded).mean())
right = float(loaded.astype(np.float32).std()), float(weights.std()), float(weights.float().square().mean())
print(f"{loaded.dtype} weights from a file: std {spread[0]:.3f}, mean of squares {spread[1]:.3f}; as float32 std {right[0]:.3f}; by torch {right[1]:.3f} and {right[2]:.3f}")

mixed = [3, float("nan"), 1, 2]
ordered = {np.dtype(dtype).name: np.sort(np.array(mixed).astype(dtype)).astype(np.float32).tolist() for dtype in (np.float16, ml_dtypes.bfloat16)}
print("sorted", mixed, ordered)
holds = ones["bfloat16"][:2] == (256, float(ml_dtypes.bfloat16(0.0256))) and ones["bfloat16"][2:4] == (256, 256) and ones["bfloat16"][4] == 2000
holds &= ones["float16"][:4] == (10_000, 1, 2048, 1000) and ones["float8_e4m3fn"][0] == 16 and ones["float8_e5m2"][0] == 8 and by_jax == by_torch == 9984
holds &= spread[0] < 0.8 and spread[1] < 0.6 and all(0.95 < value < 1.05 for value in right)
holds &= str(ordered["bfloat16"]) == "[3.0, nan, 1.0, 2.0]" and ordered["float16"][:3] == [1, 2, 3]
sys.exit(not holds)
PY
