import { mismatch } from '../errors.js';
import type { Tensor } from '../tensor.js';
import { check, choice, integer, type Rules, required } from './check.js';
import { type InitialSystem, runInitial, runInitialSync } from './initial.js';
import type { Out } from './outs.js';
import { type CallOptions, output } from './run.js';

/** Arguments of {@link s4dInit}. */
export interface S4dInitArgs extends Out<S4dInitResult> {
  /** State size in real numbers, even: N/2 complex values are kept. At most 2^24; 2,048 for 'legs', whose time is O(N³). */
  N: number;
  init: 'lin' | 'inv' | 'legs' | 'real';
}

/** What {@link s4dInit} gives. */
export interface S4dInitResult {
  /** (N/2, 2) as [re, im]. */
  A: Tensor;
  /** (N/2, 2) as [re, im]. */
  B: Tensor;
}

const rules = {
  N: required(integer(2)),
  init: choice('lin', 'inv', 'legs', 'real'),
} satisfies Rules<S4dInitArgs>;

function plan(args: S4dInitArgs): InitialSystem<S4dInitResult> {
  const { N, init, sizes } = check('s4dInit', args, rules);
  const most = init === 'legs' ? 2048 : 2 ** 24;
  if (N % 2 !== 0 || N > most)
    throw mismatch('ERR_ARGUMENT', 's4dInit: N', `an even number of at most ${most} with init '${init}'`, String(N));
  const result = { A: output(sizes, 'A', [N / 2, 2]), B: output(sizes, 'B', [N / 2, 2]) };
  sizes.outs.finish(result);
  return { kind: init, N, result };
}

/**
 * Initialisations of S4D (Gu et al. 2022), the kept half of conjugate pairs with Im A ≤ 0: lin −½ − iπn;
 * inv −½ − i(N/π)(N/(2n+1) − 1); real −(n+1); legs: the eigenvalues of the normal part of HiPPO-LegS by descending |Im|,
 * with B in its eigenbasis (the sign is free), Im B limited to ±2 as in the s4 repository. B is 1 otherwise.
 *
 * @throws StatespaceError ERR_ARGUMENT, naming the argument.
 */
export function s4dInit(args: S4dInitArgs, options?: CallOptions): Promise<S4dInitResult> {
  return runInitial('s4dInit', () => plan(args), options);
}

/** {@link s4dInit} on the calling thread. */
export function s4dInitSync(args: S4dInitArgs): S4dInitResult {
  return runInitialSync(plan(args));
}
