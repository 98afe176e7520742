#!/usr/bin/env bash
# safetensors.numpy saves a transposed or sliced array under its shape with other values; safetensors.torch refuses the same tensor.
#
# Versions: safetensors 0.8.0, numpy 2.4.6, torch 2.13.0 (CPU).
# Behaviour: the documentation of both asks for contiguous tensors. The torch half checks that, and says what to do; the numpy half
#   writes as many bytes as the array has, from where it begins in memory.
# Seen: [[0, 1, 2], [3, 4, 5]].T comes back as [[0, 1], [2, 3], [4, 5]] of the right shape (right: [[0, 3], [1, 4], [2, 5]]); the first two of four columns as
#   the first six numbers of the rows; an array in Fortran's order is mixed up as well. torch: "non contiguous tensor" for the first two.
# Why it matters: linear layers of Flax and Keras are (in, out), those of PyTorch (out, in): converters are full of .T, and
#   what they save here is a model of the right shapes that says nonsense.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 safetensors==0.8.0 numpy==2.4.6

"$python" - <<'PY'
import sys
import numpy as np
import safetensors.numpy, safetensors.torch
import torch

rows = np.arange(6, dtype=np.float32).reshape(2, 3)
wide = np.arange(12, dtype=np.float32).reshape(3, 4)
expected = {"transposed": [[0, 1], [2, 3], [4, 5]], "columns": [[0, 1], [2, 3], [4, 5]], "Fortran": [[0, 3, 1], [4, 2, 5]], "contiguous": rows.tolist()}
arrays = {"transposed": rows.T, "columns": wide[:, :2], "Fortran": np.asfortranarray(rows), "contiguous": rows}
holds = True
for name, array in arrays.items():
    back = safetensors.numpy.load(safetensors.numpy.save({"a": array}))["a"]
    try:
        safetensors.torch.save({"a": torch.from_numpy(array)})
        refused = False
    except ValueError as error:
        refused = "non contiguous" in str(error)
    copied = safetensors.numpy.load(safetensors.numpy.save({"a": np.ascontiguousarray(array)}))["a"]
    print(f"{name:10} {array.tolist()} is {back.tolist()} after numpy's save; torch's refuses it: {refused}")
    holds &= back.tolist() == expected[name] and np.array_equal(copied, array) and refused == (name != "contiguous")
sys.exit(not holds)
PY
