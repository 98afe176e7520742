#!/usr/bin/env bash
# Tensor of @huggingface/transformers: to("float16") is garbage before Node 24, norms forget the sign, add() of two tensors is NaN.
#
# Versions: @huggingface/transformers 4.3.2, Node 20 and 22 (any Node without Float16Array).
# Behaviour: where there is no Float16Array the data of float16 is a Uint16Array, into which to() writes the numbers themselves, cut to whole ones, instead of their bits. norm(p) sums
#   x**p instead of |x|**p. normalize() has no smallest length, mean_pooling() no smallest count. squeeze() knows no negative dimension. to("int64") rounds
#   down, to("int32") to zero. add(), sub(), mul() and div() take a number, and do not refuse a tensor.
# Seen: [1.5, -2, 70000] to float16 and back to float32: 6e-8, NaN, 7e-4; norm(1) of [-3, 4] 1 (7), norm(3) 3.33 (4.50), norm(Infinity) 1 (4); normalize()
#   of a row of zeros NaN (torch: 0), mean_pooling() of a row without a token NaN (sentence-transformers: 0); squeeze(-1) of shape [1, 2, 1] changes nothing; -1.9 to int64 -2,
#   to int32 -1; [1, 2].add([1, 2]) NaN. norm(2) is right, and so is norm(1) of positive numbers.
# Why it matters: inputs for fp16 exports, L1 norms and pooled embeddings of empty texts are wrong numbers without an error; one NaN vector spoils
#   every comparison in an index. What is said in torch's words is not torch's function.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
node_packages @huggingface/transformers@4.3.2

cat >"$work/node/tensor.mjs" <<'JS'
// Node 24 has it; what earlier ones do is shown.
delete globalThis.Float16Array;
const { Tensor, mean_pooling } = await import('@huggingface/transformers');

const float = (numbers, shape = [numbers.length]) => new Tensor('float32', Float32Array.from(numbers), shape);
const signed = float([-3, 4]);
const halves = [1.5, -2, 70000];
const seen = {
  float16: float(halves).to('float16').to('float32').tolist(),
  norms: [1, 2, 3, Infinity].map((p) => Number(signed.norm(p, 0).item().toFixed(2))),
  positive: float([3, 4]).norm(1, 0).item(),
  zeros: float([3, 4, 0, 0], [2, 2]).normalize(2, -1).tolist()[1],
  pooled: mean_pooling(float([1, 2, 3, 4], [1, 2, 2]), new Tensor('int64', [0n, 0n], [1, 2])).tolist()[0],
  squeezed: float([1, 2], [1, 2, 1]).squeeze(-1).dims,
  squeezedByNumber: float([1, 2], [1, 2, 1]).squeeze(2).dims,
  whole: [float([-1.9]).to('int64').item(), float([-1.9]).to('int32').item()].map(Number),
  sum: float([1, 2]).add(float([1, 2])).tolist(),
};
console.log(seen);
const is = (name, expected) => JSON.stringify(seen[name]) === JSON.stringify(expected);
const allNaN = (name) => seen[name].every(Number.isNaN);
process.exit(
  halves.every((number, at) => !(Math.abs(seen.float16[at] - number) < 1)) &&
    is('norms', [1, 5, 3.33, 1]) &&
    is('positive', 7) &&
    allNaN('zeros') &&
    allNaN('pooled') &&
    is('squeezed', [1, 2, 1]) &&
    is('squeezedByNumber', [1, 2]) &&
    is('whole', [-2, -1]) &&
    allNaN('sum')
    ? 0
    : 1,
);
JS
(cd "$work/node" && node tensor.mjs)
