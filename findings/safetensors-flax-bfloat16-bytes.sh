#!/usr/bin/env bash
# safetensors.flax and safetensors.numpy cannot load() the bfloat16 that their save() wrote; load_file() can. float8 they write only.
#
# Versions: safetensors 0.8.0, jax 0.10.2, flax 0.12.8, ml_dtypes 0.6.0.
# Behaviour: load() looks the type's name up in a table of numpy's own types, which holds neither bfloat16 nor the float8 types; load_file() and
#   safe_open() go by another way, which knows bfloat16 and asks numpy for the others.
# Seen with jax.numpy arrays of bfloat16, float8_e4m3fn and float8_e5m2: flax.save() passes; flax.load() of these bytes raises KeyError 'BF16', 'F8_E4M3',
#   'F8_E5M2', and so does numpy.load(). load_file() of both gives bfloat16 back, and for float8 raises AttributeError: module 'numpy' has no
#   attribute 'float8_e4m3fn'. float16 and float32: both ways.
# Why it matters: bytes come from where there is no file, as object stores and archives. bfloat16 is the type that nearly all checkpoints
#   of language models have; the error names a key of a dictionary.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages safetensors==0.8.0 jax==0.10.2 flax==0.12.8 ml_dtypes==0.6.0 numpy

"$python" - "$work" <<'PY'
import sys
import jax.numpy as jnp
import numpy as np
import safetensors.flax, safetensors.numpy

path = f"{sys.argv[1]}/a.safetensors"
holds = True
for name, tag in (("bfloat16", "BF16"), ("float8_e4m3fn", "F8_E4M3"), ("float8_e5m2", "F8_E5M2"), ("float16", None), ("float32", None)):
    array = jnp.array([1, -0.5, 2], name)
    data = safetensors.flax.save({"a": array})
    safetensors.flax.save_file({"a": array}, path)
    def way(load, source):
        try:
            return np.array_equal(np.asarray(load(source)["a"], np.float32), np.asarray(array, np.float32))
        except (AttributeError, KeyError) as error:
            return f"{type(error).__name__}: {error}"
    seen = [(way(library.load, data), way(library.load_file, path)) for library in (safetensors.flax, safetensors.numpy)]
    print(f"{name:14} flax: load() {seen[0][0]}, load_file() {seen[0][1]}; numpy: load() {seen[1][0]}, load_file() {seen[1][1]}")
    file = f"AttributeError: module 'numpy' has no attribute '{name}'" if "float8" in name else True
    holds &= seen == [(f"KeyError: '{tag}'" if tag else True, file)] * 2
sys.exit(not holds)
PY
