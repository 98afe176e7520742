/** log Σ exp(x), without overflow. */
export function logSumExp(row: Float32Array): number {
  let top = -Infinity;
  for (const x of row) if (x > top) top = x;
  let sum = 0;
  for (const x of row) sum += Math.exp(x - top);
  return top + Math.log(sum);
}
