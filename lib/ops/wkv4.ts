import { Tensor, type TensorLike } from '../tensor.js';
import { check, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, stateFrom, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link wkv4}. */
export interface Wkv4Args extends Out<Wkv4Result> {
  /** (B, L, D). */
  k: TensorLike;
  /** (B, L, D). */
  v: TensorLike;
  /** (D); the decay per step is exp(−exp(timeDecay)). */
  timeDecay: TensorLike;
  /** Bonus of the present token, (D). */
  timeFirst: TensorLike;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
  /** (B, 3, D), packed (S, 3, D): numerator, denominator, exponent; default 0, 0, −1e38. */
  initialState?: TensorLike | undefined;
}

/** What {@link wkv4} gives. */
export interface Wkv4Result {
  /** (B, L, D). */
  y: Tensor;
  /** (B, 3, D), packed (S, 3, D). */
  lastState: Tensor;
}

/** Nothing seen: the exponent is that of an empty sum. */
function emptyState(count: number, channels: number): Tensor {
  const data = new Float32Array(count * 3 * channels);
  for (let s = 0; s < count; s++) data.fill(-1e38, (3 * s + 2) * channels, (3 * s + 3) * channels);
  return new Tensor(data, [count, 3, channels]);
}

const rules = {
  k: tensor('B L D'),
  v: tensor('B L D'),
  timeDecay: tensor('D'),
  timeFirst: tensor('D'),
  cuSeqlens: sequences,
  initialState: optional('S 3 D'),
} satisfies Rules<Wkv4Args>;

export function plan(args: Wkv4Args): Plan<Wkv4Result> {
  const { sizes, ...a } = check('wkv4', args, rules);
  const [S, D] = sizes.all('S', 'D');
  const y = output(sizes, 'y', a.k.shape);
  const lastState = stateFrom(a.initialState ?? emptyState(S, D), sizes, 'lastState', [S, 3, D]);
  return {
    op: 'wkv4',
    sizes,
    tensors: {
      k: tokens(a.k),
      v: tokens(a.v),
      timeDecay: a.timeDecay,
      timeFirst: a.timeFirst,
      cuSeqlens: a.cuSeqlens,
      state: lastState,
      y: tokens(y),
    },
    result: { y, lastState },
  };
}

/**
 * RWKV-4's attention (Peng et al. 2023), per channel: y = (num + e^(u+k)·v) / (den + e^(u+k)); num and den decay by
 * e^w and gain e^k·v and e^k, with w = −exp(timeDecay), u = timeFirst. Kept with a running maximum, so that no k is too
 * large.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function wkv4(args: Wkv4Args, options?: CallOptions): Promise<Wkv4Result> {
  return run(() => plan(args), options);
}

/** {@link wkv4} on the calling thread. */
export function wkv4Sync(args: Wkv4Args): Wkv4Result {
  return runSync(plan(args));
}

/** Arguments of {@link wkv4Backward}. */
export interface Wkv4BackwardArgs extends Omit<Wkv4Args, 'out'>, Out<Wkv4Gradients> {
  /** (B, L, D): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link wkv4Backward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type Wkv4Gradients = Gradients<'k' | 'v' | 'timeDecay' | 'timeFirst', 'initialState'>;

export function backwardPlan(args: Wkv4BackwardArgs): Plan<Wkv4Gradients> {
  const { dy, ...a } = check('wkv4Backward', args, { ...rules, dy: optional('B L D') });
  const { k, v, timeDecay, timeFirst, cuSeqlens, initialState } = a;
  const tensors = { k: tokens(k), v: tokens(v), timeDecay, timeFirst, cuSeqlens, initialState };
  const above = { dy: tokens(orZeros(dy, k.shape)) };
  return gradientPlan('wkv4Backward', a, { tensors }, above, ['k', 'v', 'timeDecay', 'timeFirst', 'initialState']);
}

/**
 * The gradients of {@link wkv4}. The exponent by which numerator and denominator are scaled has none of its own: that of
 * an initial state's exponent is what it has through them.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const wkv4Backward = gradientCall(backwardPlan);

/** {@link wkv4Backward} on the calling thread. */
export const wkv4BackwardSync = gradientCallSync(backwardPlan);
