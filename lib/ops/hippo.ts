import { Tensor } from '../tensor.js';
import { check, choice, integer, type Rules, required } from './check.js';
import { allocated } from './run.js';

/** Arguments of {@link hippo}. */
export interface HippoArgs {
  /** State size. */
  N: number;
  /** Default 'legs', the only one. */
  measure?: 'legs';
}

/** What {@link hippo} gives. */
export interface HippoResult {
  /** (N, N). */
  A: Tensor;
  /** (N). */
  B: Tensor;
}

const rules = { N: required(integer(1)), measure: choice('legs') } satisfies Rules<HippoArgs>;

/**
 * The HiPPO-LegS system (Gu et al. 2020), which remembers a signal by its Legendre coefficients:
 * A[n, k] = −√((2n+1)(2k+1)) below the diagonal, −(n+1) on it, 0 above; B[n] = √(2n+1).
 *
 * @throws StatespaceError ERR_ARGUMENT, naming the argument.
 */
export async function hippo(args: HippoArgs): Promise<HippoResult> {
  return hippoSync(args);
}

/** {@link hippo} on the calling thread. */
export function hippoSync(args: HippoArgs): HippoResult {
  const { N } = check('hippo', args, rules);
  const A = allocated('hippo', () => new Float32Array(N * N));
  const B = Float32Array.from({ length: N }, (_, n) => Math.sqrt(2 * n + 1));
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < n; k++) A[n * N + k] = -Math.sqrt((2 * n + 1) * (2 * k + 1));
    A[n * N + n] = -(n + 1);
  }
  return { A: new Tensor(A, [N, N]), B: new Tensor(B, [N]) };
}
