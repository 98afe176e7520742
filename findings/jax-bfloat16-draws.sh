#!/usr/bin/env bash
# jax.random.categorical with bfloat16 logits draws the first tokens: of 1,000 equal ones 86 % come from the first quarter; bernoulli(0.001) is true eight times as often.
#
# Versions: jax 0.10.2, keras 3.15.1 (CPU).
# Behaviour: the noise that is added to the logits is drawn in their type. In bfloat16 it has 128 values and ends at 4.84, so that most draws are ties, which the first token wins, and a token far below the best has no chance. The
#   documentation speaks of float32 and probabilities below 1e-7. normal() and bernoulli() draw in the type of their arguments as well. keras.random.categorical hands its logits on.
# Seen: 1,000 equal logits, share of the first and the last quarter: float32 0.250 and 0.250, float16 0.35 and 0.17, bfloat16 0.86 and 0.002, the same through Keras; with mode="high" the first have 0.250, 0.24, 0.249. Two tokens, one 8 below the other, which is 3.4e-4: float32 3.4e-4, float16 6e-5,
#   bfloat16 1.6e-4; 10 below (4.5e-5), of 2 million draws: 79, 0, 0. bernoulli(0.001): 0.0010, 0.0020, 0.0078. Largest of 5 million normal() numbers: 5.4, 3.5, 2.9.
# Why it matters: models in bfloat16 have logits in bfloat16. Sampling goes to small token ids, which are bytes and punctuation, rare tokens never come, and random masks and initial weights are others than asked for. Casting to float32
#   first is the way out.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2 jaxlib==0.10.2 keras==3.15.1 numpy

KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$python" - <<'PY'
import sys
import jax, jax.numpy as jnp, keras, numpy as np

tokens, draws = 1000, 2_000_000
seen, holds = {}, True
for dtype in (jnp.float32, jnp.float16, jnp.bfloat16):
    equal = jnp.zeros(tokens, dtype)
    drawn = np.concatenate([np.asarray(jax.random.categorical(jax.random.key(i), equal, shape=(2000,))) for i in range(20)])
    high = np.concatenate([np.asarray(jax.random.categorical(jax.random.key(i), equal, shape=(2000,), mode="high")) for i in range(5)])
    by_keras = np.asarray(keras.random.categorical(equal[None], 20000, seed=1))
    rare = [float(jnp.mean(jax.random.categorical(jax.random.key(3), jnp.array([0.0, -below], dtype), shape=(draws,)))) for below in (8, 10)]
    bernoulli = float(jnp.mean(jax.random.bernoulli(jax.random.key(4), jnp.asarray(0.001, dtype), (5_000_000,))))
    normal = float(jnp.abs(jax.random.normal(jax.random.key(5), (5_000_000,), dtype)).max())
    first, last = float((drawn < 250).mean()), float((drawn >= 750).mean())
    seen[dtype.__name__] = first, last, rare, bernoulli, normal
    holds &= abs(float((high < 250).mean()) - 0.25) < 0.03 and abs(float((by_keras < 250).mean()) - first) < 0.03
    print(f"{dtype.__name__}: first quarter {first:.3f}, last {last:.3f}; mode='high' {float((high < 250).mean()):.3f}; Keras {float((by_keras < 250).mean()):.3f}; "
          f"8 and 10 below {rare[0]:.2g} {rare[1]:.2g}; bernoulli(0.001) {bernoulli:.4f}; largest normal {normal:.2f}")
first, last, rare, bernoulli, normal = seen["float32"]
holds &= abs(first - 0.25) < 0.01 and abs(last - 0.25) < 0.01 and 2e-4 < rare[0] < 5e-4 and rare[1] > 1e-5 and abs(bernoulli - 0.001) < 1e-4 and normal > 4.5
first, last, rare, bernoulli, normal = seen["bfloat16"]
holds &= first > 0.7 and last < 0.05 and rare[0] < 2.5e-4 and rare[1] == 0 and bernoulli > 0.004 and normal < 3.2
first, last, rare, bernoulli, normal = seen["float16"]
holds &= first > 0.3 and last < 0.2 and rare[0] < 2e-4 and rare[1] == 0 and bernoulli > 0.0015 and normal < 4
sys.exit(not holds)
PY
