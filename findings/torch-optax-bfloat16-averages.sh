#!/usr/bin/env bash
# Adam in bfloat16 never forgets a spike, and an average of weights in bfloat16 never moves: torch.optim, torch.optim.swa_utils and optax alike.
#
# Versions: torch 2.13.0, jax 0.10.2, optax 0.2.8 (CPU).
# Behaviour: moments and averages have the type of the parameters unless one says otherwise (optax has an argument for the first moment alone). bfloat16 has 8 bits: a number times 0.999 is rounded to itself. torch's foreach and fused
#   forms do the same.
# Seen, a gradient of 1 and then 5,000 of 0.01: second moment 0.000106 and step 0.000968 in float32 and by hand, 0.000999 and 0.00031 to 0.00033 in bfloat16, with torch (plain, foreach, fused) and optax; it stays so for ever.
#   AveragedModel with get_ema_multi_avg_fn(0.999) and optax.incremental_update(step 0.001), weights that go from 1 to 2, 5,000 steps: 1.993 in float32, 1.000 in bfloat16.
# Why it matters: model.to(bfloat16) and a plain Adam is how small fine-tunes are run. One outlier batch divides the learning rate of its parameters until the end; evaluation by averaged
#   weights is evaluation of the first checkpoint. Nothing is raised or logged, and the loss still falls.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages torch==2.13.0 jax==0.10.2 optax==0.2.8 numpy
export JAX_PLATFORMS=cpu

"$python" - <<'PY'
import sys, warnings
warnings.filterwarnings("ignore")
import jax, optax, torch
import jax.numpy as jnp
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

gradients, steps = [1.0] + [0.01] * 5000, 5000

def by_hand():
    first = second = 0.0
    for step, gradient in enumerate(gradients, 1):
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
    return second, 1e-3 * first / (1 - 0.9**step) / ((second / (1 - 0.999**step)) ** 0.5 + 1e-8)

def adam_of_torch(dtype, **form):
    weight = torch.nn.Parameter(torch.zeros(4, dtype=dtype))
    optimizer = torch.optim.Adam([weight], lr=1e-3, **form)
    for gradient in gradients:
        weight.data.zero_()
        weight.grad = torch.full((4,), gradient, dtype=dtype)
        optimizer.step()
    return optimizer.state[weight]["exp_avg_sq"][0].item(), -weight[0].item()

def adam_of_optax(dtype):
    optimizer = optax.adam(1e-3)
    state = optimizer.init(jnp.zeros(4, dtype))
    update = jax.jit(optimizer.update)
    for gradient in gradients:
        change, state = update(jnp.full(4, gradient, dtype), state)
    return float(state[0].nu[0]), -float(change[0])

def average_of_torch(dtype):
    layer = torch.nn.Linear(2, 2, bias=False).to(dtype)
    layer.weight.data.fill_(1)
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.999))
    average.update_parameters(layer)
    layer.weight.data.fill_(2)
    for _ in range(steps):
        average.update_parameters(layer)
    return average.module.weight[0, 0].item()

def average_of_optax(dtype):
    step = jax.jit(lambda average: optax.incremental_update(jnp.full(2, 2, dtype), average, 0.001))
    average = jnp.ones(2, dtype)
    for _ in range(steps):
        average = step(average)
    return float(average[0])

second, update = by_hand()
print(f"a gradient of 1, then 5,000 of 0.01: second moment {second:.3g}, step {update:.3g}")
holds = True
for name, single, half in (
    ("torch", adam_of_torch(torch.float32), adam_of_torch(torch.bfloat16)),
    ("torch, foreach", adam_of_torch(torch.float32, foreach=True), adam_of_torch(torch.bfloat16, foreach=True)),
    ("torch, fused", adam_of_torch(torch.float32, fused=True), adam_of_torch(torch.bfloat16, fused=True)),
    ("optax", adam_of_optax(jnp.float32), adam_of_optax(jnp.bfloat16)),
):
    print(f"  {name:14} float32 {single[0]:.3g}, {single[1]:.3g}; bfloat16 {half[0]:.3g}, {half[1]:.3g}")
    holds &= abs(single[0] / second - 1) < 0.01 and abs(single[1] / update - 1) < 0.01 and half[0] > 9e-4 and half[1] < 0.5 * update
exact = 2 - 0.999**steps
print(f"average (0.999) of weights that go from 1 to 2, after 5,000 steps: {exact:.3f}")
for name, average, types in (("torch", average_of_torch, (torch.float32, torch.bfloat16)), ("optax", average_of_optax, (jnp.float32, jnp.bfloat16))):
    single, half = (average(dtype) for dtype in types)
    print(f"  {name:14} float32 {single:.3f}, bfloat16 {half:.3f}")
    holds &= abs(single - exact) < 1e-3 and half == 1
sys.exit(not holds)
PY
