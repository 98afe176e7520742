#!/usr/bin/env bash
# jax-js: the gradients of sigmoid and silu are NaN below -88.7, where their values are right, and that of np.power(x, 2) is NaN at 0: one closed gate or one zero ends a training.
#
# Versions: @jax-js/jax 0.1.25 (Node, its backends wasm and cpu), jax 0.10.2.
# Behaviour: sigmoid is the reciprocal of 1 + exp(-x), and its gradient multiplies exp(-x), which is infinite there, by a square that is 0. power() goes by the logarithm of its base, also for whole exponents; the gradient at 0 is 0 times infinity. jax has
#   rules of its own for both.
# Seen on both backends, gradient of sigmoid at -100, -89, -80, 100: NaN, NaN, 0, 0; of silu NaN, NaN, 2e-35, 1; values are right. power(x, 2) at -2, 0, 3: -4, NaN, 6; np.square's is right. jax: no NaN, 0 in all these places.
# Why it matters: sigmoid and silu are the gates of LSTM, Mamba, RWKV and every SwiGLU, and a padded row, a dead channel or an embedding that starts with zeros has an exact 0 under a mean square. After one step all weights are NaN, while the loss
#   was finite.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2
node_packages @jax-js/jax@0.1.25

JAX_PLATFORMS=cpu "$python" - >"$work/right.json" <<'PY'
import json
import jax, jax.numpy as jnp
points = {"sigmoid": [-100, -89, -80, -1, 100], "silu": [-100, -89, -80, -1, 100], "power": [-2, 0, 3], "square": [-2, 0, 3]}
functions = {"sigmoid": jax.nn.sigmoid, "silu": jax.nn.silu, "power": lambda x: jnp.power(x, 2), "square": jnp.square}
found = {}
for name, at in points.items():
    x = jnp.array(at, jnp.float32)
    found[name] = {"at": at, "value": functions[name](x).tolist(), "gradient": jax.grad(lambda a: functions[name](a).sum())(x).tolist()}
print(json.dumps(found))
PY
cat >"$work/node/gradients.mjs" <<'JS'
// The package asks the browser's navigator for WebGPU; Node 20 has none.
globalThis.navigator ??= {};
const jax = await import('@jax-js/jax');
const { numpy: np, nn, grad } = jax;
await jax.init('cpu', 'wasm');
const functions = { sigmoid: nn.sigmoid, silu: nn.silu, power: (x) => np.power(x, 2), square: np.square };
const values = async (array) => Array.from(await array.data());
let holds = true;
for (const backend of ['wasm', 'cpu']) {
  jax.defaultDevice(backend);
  for (const [name, { at, value, gradient }] of Object.entries(JSON.parse(process.argv[2]))) {
    const own = await values(functions[name](np.array(at)));
    const slope = await values(grad((x) => functions[name](x).sum())(np.array(at)));
    console.log(`${backend} ${name} at ${at}: gradient ${slope.map((v) => v.toPrecision(2))}, in jax ${gradient.map((v) => v.toPrecision(2))}`);
    at.forEach((x, i) => {
      const broken = name === 'power' ? x === 0 : name !== 'square' && x < -88.8;
      holds &&= Math.abs(own[i] - value[i]) < 1e-4 && Number.isNaN(slope[i]) === broken && Number.isFinite(gradient[i]);
      holds &&= broken || Math.abs(slope[i] - gradient[i]) < 1e-4;
    });
  }
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node gradients.mjs "$(cat "$work/right.json")")
