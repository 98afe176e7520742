#!/usr/bin/env bash
# Keras with set_floatx("bfloat16"): metrics and the loss that fit() reports stop counting at 256: the mean of 500 threes and 500 ones is 4, and a loss of 2 is reported as 4.
#
# Versions: keras 3.15.1, jax 0.10.2 (CPU).
# Behaviour: the sum and the count of a Mean have the type of floatx, and are added to once a batch: 256 + 1 is 256 in bfloat16, while the sum may go on, or stop as well. The documentation advises against "float16", for its range. With the dtype
#   policy "bfloat16", instead, metrics are float32.
# Seen: Mean of 500 threes and then 500 ones: 4.0 (the mean is 2); of 0 and 2 by turns: 2.0 (1). fit() of a model that does not learn, 2,000 batches of one row, first 1,000 with a target of 2 and then of 0: loss 4.0 and mae 2.0; evaluate() the
#   same. They are 2.0 and 1.0, as with the policy, and nearly so in batches of 100.
# Why it matters: a bfloat16 model's curves, early stopping and the choice of the best checkpoint depend on when in an epoch the losses came, and not on how the model does.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2 jaxlib==0.10.2 keras==3.15.1 numpy

KERAS_BACKEND=jax JAX_PLATFORMS=cpu "$python" - <<'PY'
import sys
import keras, numpy as np

def mean(values):
    metric = keras.metrics.Mean()
    for value in values:
        metric.update_state(value)
    return float(metric.result())

def reported(size):
    model = keras.Sequential([keras.layers.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", metrics=["mae"])
    x, y = np.ones((2000, 1), np.float32), np.repeat(np.float32([2, 0]), 1000)[:, None]
    fitted = model.fit(x, y, batch_size=size, shuffle=False, verbose=0).history
    return fitted["loss"][0], fitted["mae"][0], *model.evaluate(x, y, batch_size=size, verbose=0)

falling, turns = [3.0] * 500 + [1.0] * 500, [0.0, 2.0] * 500
keras.config.set_floatx("bfloat16")
stopped = mean(falling), mean(turns), reported(1), reported(100)
keras.config.set_floatx("float32")
keras.config.set_dtype_policy("bfloat16")
right = mean(falling), mean(turns), reported(1), reported(100)
for name, (fell, turned, single, hundred) in (('set_floatx("bfloat16")', stopped), ('policy "bfloat16"', right)):
    print(f"{name}: threes and ones {fell}, zeros and twos {turned}; fit's loss and mae, evaluate's, batches of 1: {single}, of 100: {hundred}")
holds = stopped[0] > 3 and stopped[1] > 1.5 and min(stopped[2][0], stopped[2][2]) > 3 and min(stopped[2][1], stopped[2][3]) > 1.5 and abs(stopped[3][0] - 2) < 0.1
holds &= right[:2] == (2, 1) and all(abs(value - wanted) < 1e-3 for row in right[2:] for value, wanted in zip(row, (2, 1, 2, 1)))
sys.exit(not holds)
PY
