#!/usr/bin/env bash
# jnp.histogram counts in the type of the values: no bin goes beyond 256 in bfloat16 and 2,048 in float16, and the counts no longer add up.
#
# Versions: jax 0.10.2 (CPU), numpy 2.4.6 to compare.
# Behaviour: each value adds 1 to its bin in the values' own type, in which 256 + 1 is 256 (2,048 + 1 is 2,048). density=True divides by the same counts. numpy counts in integers, for float16 as well. jnp.bincount counts in integers.
# Seen, 100,000 normal numbers in 8 bins: numpy and jax in float32 the same counts, 100,000 in all; bfloat16 at most 256 in a bin and 1,604 in all; float16 at most 2,048 and 10,476 in all. With density=True the highest bin has
#   0.16 and 0.20 of the mass, where it is 0.40.
# Why it matters: histograms of weights, activations and gradients are what clipping, calibration of quantisation and logs of a training run are made of; in the types of models they are flat, without a word.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6

JAX_PLATFORMS=cpu "$python" - <<'PY'
import sys
import jax.numpy as jnp, numpy as np

values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
seen = {}
for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
    typed = jnp.array(values, dtype)
    counts = np.asarray(jnp.histogram(typed, 8)[0].astype(jnp.float32))
    density = np.asarray(jnp.histogram(typed, 8, density=True)[0].astype(jnp.float32))
    right = np.histogram(np.asarray(typed.astype(jnp.float32)), 8)[0]
    seen[dtype.__name__] = counts, right, float(density.max() / density.sum()), float(right.max() / right.sum())
    print(f"{dtype.__name__}: {counts.astype(int).tolist()}, {int(counts.sum())} in all; by numpy in floats {right.tolist()}; share of the highest {seen[dtype.__name__][2]:.2f} for {seen[dtype.__name__][3]:.2f}")
half = np.histogram(values.astype(np.float16), 8)[0]
index = jnp.bincount(jnp.zeros(5000, jnp.int32), length=2)
print("numpy in float16:", half.tolist(), half.dtype, "; jnp.bincount of 5,000 zeros:", index.tolist())
counts, right, _, _ = seen["float32"]
holds = (counts == right).all() and half.sum() == 100_000 and index[0] == 5000
holds &= seen["bfloat16"][0].max() == 256 and seen["float16"][0].max() == 2048 and seen["bfloat16"][1].max() > 20_000
holds &= all(share < wanted - 0.1 for _, _, share, wanted in (seen["float16"], seen["bfloat16"]))
sys.exit(not holds)
PY
