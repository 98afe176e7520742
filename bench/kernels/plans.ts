/** The prepared calls of the ops, loaded at first use as the library is. */
import type * as Plans from '../../lib/ops/plans.js';
import type { Plan } from '../../lib/ops/run.js';

export function plans(): typeof Plans {
  return require('../../lib/ops/plans.js') as typeof Plans;
}

/** Makes a prepared call, on this thread. It may be made again: the memory is the same. */
export function runPlan<R>(plan: Plan<R>): R {
  return (require('../../lib/ops/run.js') as typeof import('../../lib/ops/run.js')).runSync(plan);
}
