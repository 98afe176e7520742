import { withBuffer } from '../memory.js';
import type { Tensor, TensorLike } from '../tensor.js';
import { check, choice, type Input, integer, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link retention}. */
export interface RetentionArgs extends Out<RetentionResult> {
  /** (B, L, H, K); scaled by 1/√K inside. */
  q: TensorLike;
  /** (B, L, H, K). */
  k: TensorLike;
  /** (B, L, H, V). */
  v: TensorLike;
  /** ln γ per head, (H); default ln(1 − 2^(−5−h)). */
  logDecay?: TensorLike | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, H, K, V), packed (S, H, K, V); zeros by default. */
  initialState?: TensorLike | undefined;
  /** All compute the same function. Default 'chunkwise'. */
  mode?: 'parallel' | 'recurrent' | 'chunkwise' | undefined;
  /** Tokens of a chunk in mode 'chunkwise', default 64; the result does not depend on it. */
  chunkSize?: number | undefined;
}

/** What {@link retention} gives. */
export interface RetentionResult {
  /** (B, L, H, V). */
  y: Tensor;
  /** (B, H, K, V), packed (S, H, K, V). */
  lastState: Tensor;
}

const rules = {
  q: tensor('B L H K'),
  k: tensor('B L H K'),
  v: tensor('B L H V'),
  logDecay: optional('H'),
  cuSeqlens: sequences,
  initialState: optional('S H K V'),
  mode: choice('chunkwise', 'recurrent', 'parallel'),
  chunkSize: integer(1),
} satisfies Rules<RetentionArgs>;

/** ln(1 − 2^(−5−h)), the decays of RetNet. */
function standardDecay(heads: number): Input {
  const data = Float32Array.from({ length: heads }, (_, h) => Math.log1p(-(2 ** (-5 - h))));
  return { data: withBuffer(data), shape: [heads], dtype: 'f32' };
}

export function plan(args: RetentionArgs): Plan<RetentionResult> {
  const { sizes, ...a } = check('retention', args, rules);
  const logDecay = a.logDecay ?? standardDecay(sizes.of('H'));
  const y = output(sizes, 'y', a.v.shape);
  const lastState = stateFrom(a.initialState, sizes, 'lastState', sizes.all('S', 'H', 'K', 'V'));
  return {
    op: 'retention',
    sizes,
    tensors: {
      q: tokens(a.q),
      k: tokens(a.k),
      v: tokens(a.v),
      logDecay,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
    },
    attrs: { mode: a.mode, chunkSize: a.chunkSize },
    result: { y, lastState },
  };
}

/**
 * RetNet's retention (Sun et al. 2023), per head: S ← γ·S + k·vᵀ; y = Sᵀq/√K. Modes: chunks of parallel form (time
 * O(L)), step by step, or all pairs of tokens (time O(L²)).
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function retention(args: RetentionArgs, options?: CallOptions): Promise<RetentionResult> {
  return run(() => plan(args), options);
}

/** {@link retention} on the calling thread. */
export function retentionSync(args: RetentionArgs): RetentionResult {
  return runSync(plan(args));
}

/** Arguments of {@link retentionBackward}. */
export interface RetentionBackwardArgs extends Omit<RetentionArgs, 'out'>, Out<RetentionGradients> {
  /** (B, L, H, V): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
  /** (B, H, K, V), packed (S, H, K, V): the gradient of lastState; zero when absent. */
  dlastState?: TensorLike | undefined;
}
/** What {@link retentionBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type RetentionGradients = Gradients<'q' | 'k' | 'v', 'logDecay' | 'initialState'>;

export function backwardPlan(args: RetentionBackwardArgs): Plan<RetentionGradients> {
  const name = 'retentionBackward';
  const { dy, dlastState, ...a } = check(name, args, {
    ...rules,
    dy: optional('B L H V'),
    dlastState: optional('S H K V'),
  });
  const { q, k, v, cuSeqlens, initialState } = a;
  const logDecay = a.logDecay ?? standardDecay(a.sizes.of('H'));
  const tensors = { q: tokens(q), k: tokens(k), v: tokens(v), logDecay, cuSeqlens, initialState };
  const above = { dy: tokens(orZeros(dy, v.shape)), dlastState };
  return gradientPlan(name, a, { tensors }, above, ['q', 'k', 'v', 'logDecay', 'initialState']);
}

/**
 * The gradients of {@link retention} (Sun et al. 2023), backwards in time over states that are computed again from some
 * that are kept. The default decay is a constant and has none.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const retentionBackward = gradientCall(backwardPlan);

/** {@link retentionBackward} on the calling thread. */
export const retentionBackwardSync = gradientCallSync(backwardPlan);
