import type { Tensor } from '../tensor.js';
import { check, choice, integer, type Rules, required } from './check.js';
import { type InitialSystem, runInitial, runInitialSync } from './initial.js';
import type { Out } from './outs.js';
import { type CallOptions, output } from './run.js';

/** Arguments of {@link hippo}. */
export interface HippoArgs extends Out<HippoResult> {
  /** State size, at most 16,384. */
  N: number;
  /** Default 'legs', the only one. */
  measure?: 'legs' | undefined;
}

/** What {@link hippo} gives. */
export interface HippoResult {
  /** (N, N). */
  A: Tensor;
  /** (N). */
  B: Tensor;
}

const mostN = 16_384; // A is then 1 GiB

const rules = { N: required(integer(1, undefined, mostN)), measure: choice('legs') } satisfies Rules<HippoArgs>;

function plan(args: HippoArgs): InitialSystem<HippoResult> {
  const { N, sizes } = check('hippo', args, rules);
  const result = { A: output(sizes, 'A', [N, N]), B: output(sizes, 'B', [N]) };
  sizes.outs.finish(result);
  return { kind: 'hippo', N, result };
}

/**
 * The HiPPO-LegS system (Gu et al. 2020), which remembers a signal by its Legendre coefficients:
 * A[n, k] = −√((2n+1)(2k+1)) below the diagonal, −(n+1) on it, 0 above; B[n] = √(2n+1).
 *
 * @throws StatespaceError ERR_ARGUMENT, naming the argument.
 */
export function hippo(args: HippoArgs, options?: CallOptions): Promise<HippoResult> {
  return runInitial('hippo', () => plan(args), options);
}

/** {@link hippo} on the calling thread. */
export function hippoSync(args: HippoArgs): HippoResult {
  return runInitialSync(plan(args));
}
