#!/usr/bin/env bash
# Attention of flax, decoding beyond the length that its cache was made for: each new key overwrites the last one, and answers go on without an error.
#
# Versions: flax 0.12.8 (linen and nnx), jax 0.10.2 (CPU).
# Behaviour: the key goes to the place that cache_index names, by dynamic_update_slice, which moves a place outside to the last one inside. The index counts on, the mask shows everything, and positions
#   between the last place and the newest token are gone.
# Seen, a cache of 8 and 12 tokens, linen and nnx: up to token 8 4e-7 from one forward, beyond 0.2 to 1.3; the last row is, to 1e-7, attention to tokens 1 to 7 and the newest; cache_index is 12.
# Why it matters: a length that is one too short (a chat that goes on, a prompt longer than in the test) gives fluent answers that forget the text before, all but the oldest part; other libraries raise, or drop the oldest.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages flax==0.12.8 jax==0.10.2 numpy
export JAX_PLATFORMS=cpu

"$python" - <<'PY'
import sys, warnings
warnings.filterwarnings("ignore")
import flax.linen as linen
import jax, numpy as np
import jax.numpy as jnp
from flax import nnx

length, made_for = 12, 8
x = jax.random.normal(jax.random.key(0), (1, length, 16))
mask = linen.make_causal_mask(jnp.ones((1, length)))

def with_linen():
    layer = linen.MultiHeadDotProductAttention(num_heads=2, deterministic=True)
    params = layer.init(jax.random.key(1), x)["params"]
    whole = lambda x, mask: layer.apply({"params": params}, x, mask=mask)
    step = linen.MultiHeadDotProductAttention(num_heads=2, deterministic=True, decode=True)
    cache, rows = step.init(jax.random.key(1), x[:, :made_for])["cache"], []
    for t in range(length):
        row, state = step.apply({"params": params, "cache": cache}, x[:, t : t + 1], mutable=["cache"])
        cache, rows = state["cache"], rows + [row]
    return whole, jnp.concatenate(rows, 1), int(cache["cache_index"])

def with_nnx():
    layer = nnx.MultiHeadAttention(num_heads=2, in_features=16, decode=False, rngs=nnx.Rngs(1))
    whole = lambda x, mask: layer(x, mask=mask)
    layer.init_cache((1, made_for, 16))
    return whole, jnp.concatenate([layer(x[:, t : t + 1], decode=True) for t in range(length)], 1), int(layer.cache_index.get_value())

holds = True
for name, build in (("linen", with_linen), ("nnx", with_nnx)):
    whole, steps, index = build()
    full = whole(x, mask)
    apart = [float(jnp.abs(full[:, t] - steps[:, t]).max()) for t in range(length)]
    # The cache as it is: the first seven tokens and the newest.
    kept = [*range(made_for - 1), length - 1]
    seen = whole(x[:, kept], None)[:, -1]
    clamped = float(jnp.abs(seen - steps[:, -1]).max())
    print(f"{name:5} within the cache of {made_for}: {max(apart[:made_for]):.0e} from one forward, beyond: {min(apart[made_for:]):.2g} to {max(apart[made_for:]):.2g}; token {length} is {clamped:.0e} from attention to tokens 1 to 7 and itself; cache_index {index}")
    holds &= max(apart[:made_for]) < 1e-5 and min(apart[made_for:]) > 0.02 and clamped < 1e-5 and index == length
sys.exit(not holds)
PY
