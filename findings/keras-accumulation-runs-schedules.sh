#!/usr/bin/env bash
# Keras with gradient_accumulation_steps: schedules and averaged weights count batches, optimizer.iterations counts updates: a cosine ends after a quarter of the training.
#
# Versions: keras 3.15.1 on jax 0.10.2 (CPU).
# Behaviour: iterations is the number of batches divided by the steps, as documented; a learning rate schedule is asked with the number of batches, and use_ema averages after each batch, whether it changed the
#   weights or not. Updates, weight decay, clipping and Adam's correction wait for the last batch of each group.
# Seen with 4 steps: CosineDecay over 8 updates is at 0 after 2 of them (by hand 0.854); 8 updates of gradient 1 take a weight from 10 to 9.27, with 1 step and by hand to 5.50; iterations says 8 in both. use_ema with momentum 0.5, 4
#   updates: 8.27 with 4 steps, 8.44 with 1 and by hand.
# Why it matters: a warmup is 4 times as short, the rate is at its end while 3 of 4 updates are still to come, and the average is nearer to the newest weights than its momentum says; changing batch size and steps against each
#   other, which is to leave a run as it is, changes it. decay_steps and momentum can be made for batches by hand.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages keras==3.15.1 jax==0.10.2 numpy
export KERAS_BACKEND=jax JAX_PLATFORMS=cpu KERAS_HOME="$work"

"$python" - <<'PY' 2>/dev/null
import math, sys
import keras
import numpy as np
from keras import optimizers

def run(steps, updates, **given):
    weight = keras.Variable(np.full(1, 10, np.float32))
    optimizer = optimizers.SGD(gradient_accumulation_steps=steps, **given)
    optimizer.build([weight])
    for _ in range(updates * (steps or 1)):
        optimizer.apply([keras.ops.ones(1)], [weight])
    average = float(np.asarray(optimizer._model_variables_moving_average[0])[0]) if given.get("use_ema") else None
    return float(np.asarray(weight)[0]), int(optimizer.iterations), float(np.asarray(optimizer.learning_rate)), average

cosine = lambda: optimizers.schedules.CosineDecay(1.0, decay_steps=8)
exact = 10 - sum((1 + math.cos(math.pi * step / 8)) / 2 for step in range(8))
schedule = {steps: run(steps, 8, learning_rate=cosine()) for steps in (None, 4)}
for steps, (weight, iterations, rate, _) in schedule.items():
    print(f"cosine over 8, gradient 1, 8 updates of {steps or 1} batches: weight {weight:.3f}, by hand {exact:.3f}; iterations {iterations}")
half = run(4, 2, learning_rate=cosine())
print(f"after 2 updates of 4 batches: iterations {half[1]}, learning rate {half[2]:.3f}, by hand {(1 + math.cos(math.pi * 2 / 8)) / 2:.3f}")

weights = [10 - 0.5 * update for update in range(1, 5)]
mean = weights[0]
for weight in weights[1:]:
    mean = 0.5 * mean + 0.5 * weight
averages = {steps: run(steps, 4, learning_rate=0.5, use_ema=True, ema_momentum=0.5)[3] for steps in (None, 4)}
print(f"average (0.5) of weights after 4 updates: {averages[None]:.4f} of 1 batch, {averages[4]:.4f} of 4 batches, by hand {mean:.4f}")
constant = run(4, 8, learning_rate=0.5)[0]
sys.exit(not (abs(schedule[None][0] - exact) < 1e-4 and schedule[4][0] - exact > 2 and schedule[None][1] == schedule[4][1] == 8 and half[1] == 2 and half[2] < 1e-6
              and abs(averages[None] - mean) < 1e-4 and abs(averages[4] - mean) > 0.1 and abs(constant - 6) < 1e-4))
PY
