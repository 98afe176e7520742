#!/usr/bin/env bash
# jax-js: nn.softplus(89) is Infinity and nn.logSigmoid(-89) -Infinity, their gradients NaN, and softplus(-17) is 0: both are the logarithm of 1 + exp, in float32.
#
# Versions: @jax-js/jax 0.1.25 (Node, its backends wasm and cpu), jax 0.10.2.
# Behaviour: softplus(x) is log(exp(x) + 1) as written: exp overflows beyond 88.7, and below -16.6 what it adds to 1 is lost. logSigmoid(x) is -softplus(-x). logsumexp and logSoftmax of the package take the largest value out first,
#   np.log1p is there, and jax has 89 and 4e-8.
# Seen on both backends: softplus of 80, 89, 100 is 80, Infinity, Infinity, its gradient 1, NaN, NaN; of -15, -17, -20 it is 4e-7 (3e-7 in jax), 0, 0. logSigmoid of -89 and -100 is -Infinity, its gradient NaN; of 17 and 20 0. jax: 89, 100, gradient 1;
#   -89, -100, gradient 1; softplus(-20) 2e-9.
# Why it matters: softplus makes the step sizes of Mamba and logSigmoid the decays of gated linear attention and losses such as DPO's: one gate of -89 makes all that follows -Infinity or NaN, one large logit ends a training, and small steps
#   become none at all.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2
node_packages @jax-js/jax@0.1.25

cat >"$work/node/softplus.mjs" <<'JS'
// The package asks the browser's navigator for WebGPU; Node 20 has none.
globalThis.navigator ??= {};
const jax = await import('@jax-js/jax');
const { numpy: np, nn, grad } = jax;
await jax.init('cpu', 'wasm');
const { inputs, right } = JSON.parse(process.argv[2]);
const values = async (array) => Array.from(await array.data());
let holds = true;
for (const backend of ['wasm', 'cpu']) {
  jax.defaultDevice(backend);
  for (const name of ['softplus', 'logSigmoid']) {
    const x = inputs[name];
    const got = { value: await values(nn[name](np.array(x))), gradient: await values(grad((a) => nn[name](a).sum())(np.array(x))) };
    console.log(`${backend} ${name}(${x}): ${got.value.map((v) => v.toPrecision(3))}; in jax ${right[name].value.map((v) => v.toPrecision(3))}; gradient ${got.gradient.map((v) => v.toPrecision(3))}`);
    x.forEach((at, i) => {
      const large = name === 'softplus' ? at : -at;
      if (large > 88.8) holds &&= Math.abs(got.value[i]) === Infinity && Number.isNaN(got.gradient[i]) && Math.abs(right[name].value[i]) === large && Math.abs(right[name].gradient[i]) === 1;
      else if (large < -16.7) holds &&= Math.abs(got.value[i]) === 0 && Math.abs(right[name].value[i]) > 0;
      else if (large > 0) holds &&= Math.abs(got.value[i] - right[name].value[i]) < 1e-4;
    });
  }
}
process.exit(holds ? 0 : 1);
JS
JAX_PLATFORMS=cpu "$python" - >"$work/right.json" <<'PY'
import json
import jax, jax.numpy as jnp
inputs = {"softplus": [-20, -17, -15, 1, 80, 89, 100], "logSigmoid": [20, 17, 15, -1, -80, -89, -100]}
right = {}
for name, function in (("softplus", jax.nn.softplus), ("logSigmoid", jax.nn.log_sigmoid)):
    x = jnp.array(inputs[name], jnp.float32)
    right[name] = {"value": function(x).tolist(), "gradient": jax.grad(lambda a: function(a).sum())(x).tolist()}
print(json.dumps({"inputs": inputs, "right": right}))
PY
(cd "$work/node" && node softplus.mjs "$(cat "$work/right.json")")
