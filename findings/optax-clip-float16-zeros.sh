#!/usr/bin/env bash
# optax.clip_by_global_norm in float16: one gradient beyond 256 makes all updates zero, and gradients below 2e-4 are no gradients; torch clips both.
#
# Versions: jax 0.10.2, optax 0.2.8, torch 2.13.0 (CPU).
# Behaviour: the norm squares the gradients in their own type. 256 squared is beyond float16, so that the norm is infinite and everything is divided by it; 1e-4 squared is zero. bfloat16 and float32 have
#   the range. torch.nn.utils.clip_grad_norm_ sums in float32.
# Seen, gradients 300, 4, 1 clipped to 1: norm inf, all updates 0, none of them counted as not finite; right (torch, bfloat16, float32): 300, 1 and so on. A hundred of 1e-4 clipped to 5e-4: norm 0, not clipped (1e-4);
#   right: 0.001 and 5e-5. Gradients 30, 4, 1: right everywhere.
# Why it matters: with loss scaling, gradients of float16 are large on purpose: whole steps do nothing (Adam's moments decay meanwhile), which looks like a plateau, and apply_if_finite sees nothing to skip. Logged norms of
#   small gradients are 0.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy
export JAX_PLATFORMS=cpu

"$python" - <<'PY'
import sys, warnings
warnings.filterwarnings("ignore")
import jax.numpy as jnp
import numpy as np
import optax, torch

cases = {"large": [300.0, 4, 1], "ordinary": [30.0, 4, 1], "small": [1e-4] * 100}
def of_optax(gradient, dtype, limit):
    gradient = {"w": jnp.array(gradient, dtype)}
    clip = optax.chain(optax.apply_if_finite(optax.clip_by_global_norm(limit), 3))
    change, state = clip.update(gradient, clip.init(gradient))
    return float(optax.global_norm(gradient)), np.asarray(change["w"], np.float64), int(state[0].total_notfinite)
def of_torch(gradient, dtype, limit):
    weight = torch.nn.Parameter(torch.zeros(len(gradient), dtype=dtype))
    weight.grad = torch.tensor(gradient, dtype=dtype)
    return float(torch.nn.utils.clip_grad_norm_([weight], limit)), weight.grad.double().numpy()

holds = True
for name, gradient in cases.items():
    limit = 5e-4 if name == "small" else 1.0
    norm = float(np.linalg.norm(gradient))
    exact = np.array(gradient) * min(1, limit / norm)
    for dtype in (jnp.float16, jnp.bfloat16, jnp.float32):
        seen, change, skipped = of_optax(gradient, dtype, limit)
        print(f"{name:8} norm {norm:.3g} clipped to {limit:g}, first {exact[0]:.2g}; optax, {dtype.__name__}: norm {seen:.3g}, first {change[0]:.2g}, steps skipped as not finite {skipped}")
        right = abs(seen / norm - 1) < 0.02 and abs(change[0] / exact[0] - 1) < 0.02
        holds &= right == (dtype is not jnp.float16 or name == "ordinary") and not skipped
        if dtype is jnp.float16 and name == "large":
            holds &= np.isinf(seen) and not change.any()
        if dtype is jnp.float16 and name == "small":
            holds &= seen == 0 and abs(change[0] / 1e-4 - 1) < 0.02
    seen, change = of_torch(gradient, torch.float16, limit)
    print(f"{'':8} torch, float16: norm {seen:.3g}, first {change[0]:.2g}")
    holds &= abs(seen / norm - 1) < 0.02 and abs(change[0] / exact[0] - 1) < 0.02
sys.exit(not holds)
PY
