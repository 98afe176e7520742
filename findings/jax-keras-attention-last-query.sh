#!/usr/bin/env bash
# is_causal of jax.nn.dot_product_attention and use_causal_mask of Keras count from the first key: a step over a cache sees the oldest token alone; and who sees nothing gets the mean of all, padding included.
#
# Versions: jax 0.10.2, keras 3.15.1 on jax, torch 2.13.0 (CPU).
# Behaviour: query i sees keys 0 to i, however many keys there are, so that one query with n keys is taken for token 0; jax's local_window_size counts from the same end. A query without a visible key, as with key_value_seq_lengths of 0
#   or a mask of padding in front, has equal scores everywhere: the average of all values. torch has the first as well, and documents it; its answer to the second is zeros.
# Seen, 6 tokens: all of them with is_causal 1e-7 from the right values; the last alone with all keys 1.9 off, and equal to the value of token 0, with a window of 2 tokens 2.6 off and the same; in Keras 2.1 off. Without the flag such a
#   step is right. Nothing visible: 6e-8 from the mean of all values in jax, 0 in torch.
# Why it matters: prefill with the flag is right and the loop of steps with the same flag is fluent and wrong. Rows of padding carry the text of others' padding into whatever pools over them.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages keras==3.15.1 jax==0.10.2 torch==2.13.0 numpy
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu KERAS_HOME="$work"

"$python" - <<'PY' 2>/dev/null
import sys
import jax
import jax.numpy as jnp
import keras
import numpy as np
import torch

random = np.random.default_rng(0)
length, heads, width = 6, 2, 4
q, k, v = (random.standard_normal((1, length, heads, width)).astype(np.float32) for _ in range(3))

def by_hand(q, k, v, visible):
    scores = np.einsum("bqhd,bkhd->bhqk", q, k).astype(np.float64) / np.sqrt(width)
    weights = np.where(visible, np.exp(scores), 0)
    total = weights.sum(-1, keepdims=True)
    return np.einsum("bhqk,bkhd->bqhd", np.divide(weights, total, out=np.zeros_like(weights), where=total > 0), v)

apart = lambda a, b: float(np.abs(np.asarray(a) - np.asarray(b)).max())
attend = jax.nn.dot_product_attention
whole = by_hand(q, k, v, np.tril(np.ones((length, length), bool)))
last, window = whole[:, -1:], by_hand(q[:, -1:], k, v, np.arange(length) >= length - 2)
prefill = apart(attend(q, k, v, is_causal=True), whole)
step = attend(q[:, -1:], k, v, is_causal=True)
local = attend(q[:, -1:], k, v, local_window_size=(1, 0))
print(f"jax, is_causal: all tokens {prefill:.0e} off, the last with all keys {apart(step, last):.2g} off, and {apart(step, v[:, :1]):.0e} from the value of token 0")
print(f"jax, a window of 2 tokens: the last with all keys {apart(local, window):.2g} off, and {apart(local, v[:, :1]):.0e} from the value of token 0")
open_step = apart(attend(q[:, -1:], k, v), last)
print(f"jax, without the flag: {open_step:.0e} off")

layer = keras.layers.MultiHeadAttention(num_heads=heads, key_dim=width)
x = random.standard_normal((1, length, 8)).astype(np.float32)
rows = np.asarray(layer(x, x, use_causal_mask=True))
keras_step = np.asarray(layer(x[:, -1:], x, use_causal_mask=True))
first_only = np.asarray(layer(x[:, -1:], x[:, :1]))
print(f"keras, use_causal_mask: the last with all keys {apart(keras_step, rows[:, -1:]):.2g} off, and {apart(keras_step, first_only):.0e} from attention to token 0 alone; without the flag {apart(layer(x[:, -1:], x), rows[:, -1:]):.0e} off")

nothing = np.zeros((1, 1, length, length), bool)
mean = np.broadcast_to(v.mean(1, keepdims=True), v.shape)
masked, empty = attend(q, k, v, mask=jnp.asarray(nothing)), attend(q, k, v, key_value_seq_lengths=jnp.array([0]))
in_torch = torch.nn.functional.scaled_dot_product_attention(*(torch.tensor(t).transpose(1, 2) for t in (q, k, v)), attn_mask=torch.tensor(nothing))
print(f"nothing visible: jax {apart(masked, mean):.0e} (mask) and {apart(empty, mean):.0e} (length 0) from the mean of all values; torch {float(in_torch.abs().max())}")
sys.exit(not (prefill < 1e-5 and open_step < 1e-5 and apart(step, last) > 0.1 and apart(step, v[:, :1]) < 1e-5 and apart(local, window) > 0.1 and apart(local, v[:, :1]) < 1e-5
              and apart(keras_step, rows[:, -1:]) > 0.01 and apart(keras_step, first_only) < 1e-5 and apart(masked, mean) < 1e-5 and apart(empty, mean) < 1e-5 and not in_torch.any()))
PY
