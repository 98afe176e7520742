#!/usr/bin/env bash
# Keras, LoRA on quantized layers: saving rounds the adapter into the four or eight bits of the weights: the file holds a part of what was learned, or nothing.
#
# Versions: keras 3.15.1, jax 0.10.2 (CPU).
# Behaviour: after quantize() and enable_lora() the two matrices are trained beside the quantized kernel, in float. save() and save_weights() write no LoRA matrices: they add the product to the kernel, quantize the sum anew and write that. A change that is smaller than half a step of
#   the grid is gone. The model in memory keeps its matrices and its answers; nothing is logged. Without quantize() files are exact.
# Seen, a Dense layer of 64 x 64, weights of 0.12, that has learned a change of rank 4, mean squared error on its data before, in memory, and by the loaded file: int4 and a change of 0.03 0.042, 4e-15, 0.0084; int4 and a change of 0.005 0.0017, 4e-16, 0.0017, as if never trained;
#   int8 and 0.005 0.0017, 4e-16, 3.4e-5; not quantized 4e-14 in memory and by the file.
# Why it matters: this is how adapters are trained where memory is short. The evaluation at the end of training is right and the file that goes into use is not, by most where the learning rate was careful.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages keras==3.15.1 jax==0.10.2

KERAS_BACKEND=jax "$python" - "$work" <<'PY'
import sys
import numpy as np
import keras
from keras import layers

random = np.random.default_rng(0)
kernel = random.standard_normal((64, 64)).astype(np.float32) / 8
change = (random.standard_normal((64, 4)) @ random.standard_normal((4, 64))).astype(np.float32)
x = random.standard_normal((2048, 64)).astype(np.float32)
holds = True
for mode, part in (("int4", 80), ("int4", 400), ("int8", 400), (None, 400)):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([layers.Input((64,)), layers.Dense(64, use_bias=False, name="layer")])
    model.get_layer("layer").kernel.assign(kernel)
    if mode:
        model.quantize(mode)
    # The target is what the (quantized) layer gives, and the change.
    y = np.asarray(model(x)) + x @ change / part
    model.get_layer("layer").enable_lora(4)
    error = lambda of: float(np.mean((np.asarray(of(x)) - y) ** 2))
    before = error(model)
    model.compile(keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 960)), "mse")
    model.fit(x, y, batch_size=64, epochs=30, verbose=0)
    model.save(f"{sys.argv[1]}/model.keras")
    model.save_weights(f"{sys.argv[1]}/model.weights.h5")
    file = error(keras.models.load_model(f"{sys.argv[1]}/model.keras"))
    again = keras.Sequential([layers.Input((64,)), layers.Dense(64, use_bias=False, name="layer")])
    if mode:
        again.quantize(mode)
    again.load_weights(f"{sys.argv[1]}/model.weights.h5")
    weights, memory = error(again), error(model)
    print(f"{mode or 'float'}, change of {float(np.std(change / part)):.1g} where weights are {float(np.std(kernel)):.2g}: error before {before:.2g}, trained {memory:.2g}, file of save() {file:.2g}, of save_weights() {weights:.2g}")
    kept = [loaded < 2 * memory + 1e-7 for loaded in (file, weights)]
    holds &= memory < before / 100 and kept == [mode is None] * 2 and (mode != "int4" or min(file, weights) > (0.1 if part == 80 else 0.7) * before)
sys.exit(not holds)
PY
