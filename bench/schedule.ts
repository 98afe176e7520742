/** How often each contender runs within a time budget. Pure arithmetic, so that it can be tested without a clock. */
import { formatSeconds } from './format.js';

export interface Plan {
  reps: number;
  /** Why it does not run; empty when it does. */
  reason: string;
}

// A computation of seconds varies little from run to run: few samples say enough, and one where no more can be had.
const LONG_RUN = 2;
const LONG_RUN_SAMPLES = 3;

/** Samples that are taken where there is time. */
export function wantedRuns(cost: number, wanted: number): number {
  return cost > LONG_RUN ? Math.min(wanted, LONG_RUN_SAMPLES) : wanted;
}

/** Samples below which a contender is skipped rather than measured badly. */
export function leastRuns(cost: number, wanted: number): number {
  return Math.min(wanted, cost > LONG_RUN ? 1 : 3);
}

/**
 * The cheapest are served first and leave what they do not use; one that cannot have its least runs out of all that is
 * left is skipped. `besides`: runs that each needs before its samples.
 */
export function planRuns(
  costs: ReadonlyMap<string, number>,
  { wanted, seconds, besides = 0 }: { wanted: number; seconds: number; besides?: number },
): Map<string, Plan> {
  const plans = new Map<string, Plan>();
  const order = [...costs].sort((a, b) => a[1] - b[1]);
  let left = Math.max(0, seconds);
  order.forEach(([id, cost], i) => {
    const least = leastRuns(cost, wanted);
    const share = left / (order.length - i);
    const affordable = Math.min(wantedRuns(cost, wanted), Math.floor(share / cost) - besides);
    const reps = affordable >= least ? affordable : (least + besides) * cost <= left ? least : 0;
    const reason =
      reps > 0
        ? ''
        : `time: ${least + besides} ${least + besides === 1 ? 'run needs' : 'runs need'} about ${formatSeconds((least + besides) * cost)}, ` +
          `${formatSeconds(left)} of the budget are left`;
    if (reps > 0) left -= (reps + besides) * cost;
    plans.set(id, { reps, reason });
  });
  return plans;
}

/** Seconds that contenders need at least, samples and what comes before them. */
export function leastSeconds(costs: Iterable<number>, wanted: number, besides = 0): number {
  let sum = 0;
  for (const cost of costs) sum += (leastRuns(cost, wanted) + besides) * cost;
  return sum;
}

/**
 * The part of the remaining budget that a length may use: all but what the longer ones need at least, and never less
 * than a quarter, because a length measured well is worth more than a longer one measured at all.
 */
export function allowance(remaining: number, neededLater: number): number {
  return Math.max(remaining - neededLater, remaining / 4);
}
