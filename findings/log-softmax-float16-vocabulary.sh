#!/usr/bin/env bash
# A vocabulary beyond 65,504 tokens in float16: log_softmax is -inf and the cross entropy infinite on the CPU in torch and in jax, whose softmax is 0 as well; torch's softmax is right.
#
# Versions: torch 2.13.0, jax 0.10.2, optax 0.2.8 (CPU).
# Behaviour: the sum of exp(x - max) ends up in float16, whose largest number is 65,504. With a larger vocabulary (Qwen has 151,936 tokens, Gemma 262,144) flat logits, as of a new head or a high temperature, reach it.
#   torch's softmax keeps the sum in float32, its log_softmax does not. In bfloat16 there is room. Nothing is raised.
# Seen, logits of a standard deviation of 0.1: 32,000 tokens are right everywhere; of 151,936 tokens (the sum is beyond 65,504) token 7 has the log probability -inf in both and the loss inf in both (right: -11.8 and 11.8);
#   probabilities sum to 1.000 in torch and to 0 in jax. With a standard deviation of 0.5 or 3, and in bfloat16, all are right.
# Why it matters: losses and perplexities that are infinite from the first step of a fresh head, sampling from nothing but zeros; it comes and goes with temperature and training, and tests with a small vocabulary
#   are green. Gradients of torch's infinite loss are finite, so that training goes on and the log shows inf.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy
export JAX_PLATFORMS=cpu

"$python" - <<'PY'
import sys, warnings
warnings.filterwarnings("ignore")
import jax, optax, torch
import jax.numpy as jnp
import numpy as np

random = np.random.default_rng(0)
holds = True
for size, spread in ((32000, 0.1), (151936, 0.1), (262144, 0.5), (262144, 3.0)):
    logits = (spread * random.standard_normal(size)).astype(np.float16)
    wide = logits.astype(np.float64)
    exact = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    total = np.exp(wide - wide.max()).sum()
    print(f"{size} tokens, logits of a standard deviation of {spread}: sum of exp(x - max) {total:.4g}, loss of token 7 {-exact[7]:.3f}")
    for dtype in (jnp.float16, jnp.bfloat16):
        x = jnp.asarray(logits, dtype)
        probabilities, logs = jax.nn.softmax(x), jax.nn.log_softmax(x)
        loss = float(optax.softmax_cross_entropy_with_integer_labels(x, 7))
        mass = float(np.asarray(probabilities, np.float64).sum())
        print(f"  jax, {dtype.__name__:8}: probabilities sum to {mass:.3f}, log probability of token 7 {float(logs[7]):.3f}, loss of optax {loss:.3f}")
        right = abs(mass - 1) < 0.02 and abs(float(logs[7]) - exact[7]) < 0.1 and abs(loss + exact[7]) < 0.1
        holds &= right == (total < 65504 or dtype is jnp.bfloat16)
        if not right:
            holds &= mass == 0 and np.isneginf(float(logs[7])) and np.isposinf(loss)
    x = torch.tensor(logits)
    mass, log = float(x.softmax(-1).double().sum()), float(x.log_softmax(-1)[7])
    loss = float(torch.nn.functional.cross_entropy(x[None], torch.tensor([7])))
    print(f"  torch, float16: probabilities sum to {mass:.3f}, log probability of token 7 {log:.3f}, loss {loss:.3f}")
    holds &= abs(mass - 1) < 0.02
    holds &= (abs(log - exact[7]) < 0.02 and abs(loss + exact[7]) < 0.02) if total < 65504 else np.isneginf(log) and np.isposinf(loss)
sys.exit(not holds)
PY
