/** How often each contender runs within a time budget. Pure arithmetic, so that it can be tested without a clock. */

export interface Plan {
  reps: number;
  /** Why it does not run; empty when it does. */
  reason: string;
}

/**
 * The cheapest are served first and leave what they do not use; one that cannot have `least` runs out of all that is
 * left is skipped.
 */
export function planRuns(
  costs: ReadonlyMap<string, number>,
  { wanted, least, seconds }: { wanted: number; least: number; seconds: number },
): Map<string, Plan> {
  const plans = new Map<string, Plan>();
  const order = [...costs].sort((a, b) => a[1] - b[1]);
  let left = Math.max(0, seconds);
  order.forEach(([id, cost], i) => {
    const share = left / (order.length - i);
    const affordable = Math.min(wanted, Math.floor(share / cost));
    const reps = affordable >= least ? affordable : least * cost <= left ? least : 0;
    left -= reps * cost;
    plans.set(id, {
      reps,
      reason: reps > 0 ? '' : `time: ${least} runs need about ${round(least * cost)} s, ${round(left)} s are left`,
    });
  });
  return plans;
}

function round(seconds: number): string {
  return seconds < 10 ? seconds.toFixed(1) : String(Math.round(seconds));
}

/** The part of the remaining budget that this length may use: costs grow with the square of the length at most. */
export function shareOfBudget(remaining: number, lengths: readonly number[]): number {
  const weights = lengths.map((length) => length ** 2);
  return (remaining * weights[0]!) / weights.reduce((sum, weight) => sum + weight, 0);
}
