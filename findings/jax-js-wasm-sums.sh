#!/usr/bin/env bash
# jax-js on its WebAssembly backend: a mean of a million numbers is 1 % off, as sums and dot products are one running float32 number; loss and gradient of a large batch as well.
#
# Versions: @jax-js/jax 0.1.25 (Node, its backends wasm and cpu), jax 0.10.2.
# Behaviour: on wasm, the only fast backend in Node and in browsers without WebGPU, sum, mean and matmul add one number after the other in float32; the backend cpu adds in float64, and jax in pieces.
# Seen: mean of 0.1, a million times: 0.10096 on wasm, 0.1 on cpu and in jax; a hundred thousand times 0.099986. A row of a million times a column of as many: 100958, right is 100000. grad of the mean of (w * x)², w = 1, over a million x of 0.1: 0.019935, right is 0.02.
# Why it matters: losses and gradients that are means over a large batch, norms of weights and long dot products are off by up to a per cent in the browser alone, with no NaN to notice; the error grows with the number of terms.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
python_packages jax==0.10.2
node_packages @jax-js/jax@0.1.25

JAX_PLATFORMS=cpu "$python" - >"$work/right.json" <<'PY'
import json
import jax, jax.numpy as jnp
print(json.dumps({"mean": float(jnp.mean(jnp.full(1000000, 0.1))), "fewer": float(jnp.mean(jnp.full(100000, 0.1))),
                  "product": float((jnp.full((1, 1000000), 0.1) @ jnp.ones((1000000, 1)))[0, 0]),
                  "gradient": float(jax.grad(lambda w: jnp.mean((w * jnp.full(1000000, 0.1)) ** 2))(1.0))}))
PY
cat >"$work/node/sums.mjs" <<'JS'
// The package asks the browser's navigator for WebGPU; Node 20 has none.
globalThis.navigator ??= {};
const jax = await import('@jax-js/jax');
const { numpy: np, grad } = jax;
await jax.init('cpu', 'wasm');
const right = JSON.parse(process.argv[2]);
const values = async (array) => Array.from(await array.data());
console.log('jax', JSON.stringify(right));
let holds = Math.abs(right.mean - 0.1) < 1e-6 && Math.abs(right.product - 1e5) < 1 && Math.abs(right.gradient - 0.02) < 1e-6;
for (const backend of ['wasm', 'cpu']) {
  jax.defaultDevice(backend);
  const [mean] = await values(np.mean(np.full([1000000], 0.1)));
  const [fewer] = await values(np.mean(np.full([100000], 0.1)));
  const [product] = await values(np.matmul(np.full([1, 1000000], 0.1), np.full([1000000, 1], 1)));
  const [gradient] = await values(grad((w) => np.square(np.full([1000000], 0.1).mul(w)).mean())(np.array(1)));
  console.log(backend, JSON.stringify({ mean, fewer, product, gradient }));
  const off = backend === 'wasm';
  holds &&= Math.abs(mean - 0.1) > 5e-4 === off && Math.abs(product - 1e5) > 500 === off && Math.abs(fewer - 0.1) > 1e-5 === off;
  holds &&= Math.abs(gradient - 0.02) > 2e-5 === off;
}
process.exit(holds ? 0 : 1);
JS
(cd "$work/node" && node sums.mjs "$(cat "$work/right.json")")
