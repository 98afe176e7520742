/** ln Σ e^x: what a logit is less by as a log-probability. */
export function logSumExp(row: Float32Array): number {
  let top = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < row.length; i++) top = Math.max(top, row[i]!);
  let sum = 0;
  for (let i = 0; i < row.length; i++) sum += Math.exp(row[i]! - top);
  return top + Math.log(sum);
}

/** Where the `most` highest values stand, in falling order; of equal ones the first. */
export function highest(row: Float32Array, most: number): number[] {
  const found: number[] = [];
  for (let i = 0; i < row.length; i++) {
    if (found.length === most && !(row[i]! > row[found[most - 1]!]!)) continue;
    let at = found.length;
    while (at > 0 && row[i]! > row[found[at - 1]!]!) at--;
    found.splice(at, 0, i);
    if (found.length > most) found.pop();
  }
  return found;
}
