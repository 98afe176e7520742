/** The prepared calls of the ops, loaded at first use as the library is. */
import type * as Plans from '../../lib/ops/plans.js';
import type { Plan } from '../../lib/ops/run.js';
import type { Tensor } from '../library.js';

export function plans(): typeof Plans {
  return require('../../lib/ops/plans.js') as typeof Plans;
}

/** The ops with a gradient here: `opBackward` takes what `op` takes, and dy. */
export type GradientOp = keyof {
  [Name in keyof typeof Plans as `${Name}Backward` extends keyof typeof Plans ? Name : never]: true;
};

type Arguments = Readonly<Record<string, unknown>>;

/** The prepared call of an op or of its gradient, of arguments that are right for it. */
export function planOf<R>(op: GradientOp | `${GradientOp}Backward` | 'kda', args: Arguments): Plan<R> {
  return (plans()[op] as unknown as (args: Arguments) => Plan<R>)(args);
}

/** Makes a prepared call, on this thread. It may be made again: the memory is the same. */
export function runPlan<R>(plan: Plan<R>): R {
  return (require('../../lib/ops/run.js') as typeof import('../../lib/ops/run.js')).runSync(plan);
}

/**
 * An op that keeps its output's memory from call to call with the same arguments object: fresh memory of tens of
 * megabytes costs more in page faults than a scan costs in work (measured: 4,096 tokens in 11 ms, 8,192 in 135). The op
 * itself starts states anew each time.
 */
export function reusing<A extends object, R extends { y: Tensor }>(plan: (args: A) => Plan<R>): (args: A) => R {
  const made = new WeakMap<A, Plan<R>>();
  return (args) => {
    const call = made.get(args) ?? plan(args);
    made.set(args, call);
    return runPlan(call);
  };
}
