import type { Tensor, TensorLike } from '../tensor.js';
import { check, optional, type Rules, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, run, runSync, tokens } from './run.js';
import { sequences } from './sequences.js';

/** Arguments of {@link fftConv}. */
export interface FftConvArgs extends Out<FftConvResult> {
  /** (B, L, D). */
  x: TensorLike;
  /** (D, Lk); values past L are not read, missing ones are 0. */
  kernel: TensorLike;
  /** Skip weight, (D). */
  D?: TensorLike | undefined;
  /** Packed sequences: B = 1, their starts and the total, (S+1). */
  cuSeqlens?: Int32Array | undefined;
}

/** What {@link fftConv} gives. */
export interface FftConvResult {
  /** (B, L, D). */
  y: Tensor;
}

const rules = {
  x: tensor('B L D'),
  kernel: tensor('D taps'),
  D: optional('D'),
  cuSeqlens: sequences,
} satisfies Rules<FftConvArgs>;

export function plan(args: FftConvArgs): Plan<FftConvResult> {
  const a = check('fftConv', args, rules);
  const y = output(a.sizes, 'y', a.x.shape);
  return {
    op: 'fftConv',
    sizes: a.sizes,
    tensors: { x: tokens(a.x), kernel: a.kernel, D: a.D, cuSeqlens: a.cuSeqlens, y: tokens(y) },
    result: { y },
  };
}

/**
 * Causal convolution as long as the sequence, by FFT in time O(L log L): y[t] = Σ_s kernel[:, s]·x[t−s] + D·x[t]. It is
 * what S4 and Hyena compute; there is no state to continue from. Sequences of more than 64 tokens are rounded relative to
 * their largest value, later ones among them; where x or the kernel is not finite, the outputs that read it are NaN and
 * no others.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function fftConv(args: FftConvArgs, options?: CallOptions): Promise<FftConvResult> {
  return run(() => plan(args), options);
}

/** {@link fftConv} on the calling thread. */
export function fftConvSync(args: FftConvArgs): FftConvResult {
  return runSync(plan(args));
}

/** Arguments of {@link fftConvBackward}. */
export interface FftConvBackwardArgs extends Omit<FftConvArgs, 'out'>, Out<FftConvGradients> {
  /** (B, L, D): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link fftConvBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type FftConvGradients = Gradients<'x' | 'kernel', 'D'>;

export function backwardPlan(args: FftConvBackwardArgs): Plan<FftConvGradients> {
  const { dy, ...a } = check('fftConvBackward', args, { ...rules, dy: optional('B L D') });
  const { x, kernel, D, cuSeqlens } = a;
  const above = { dy: tokens(orZeros(dy, x.shape)) };
  return gradientPlan('fftConvBackward', a, { tensors: { x: tokens(x), kernel, D, cuSeqlens } }, above, [
    'x',
    'kernel',
    'D',
  ]);
}

/**
 * The gradients of {@link fftConv}, by FFT in time O(L log L): dx is the correlation of dy with the kernel, dkernel that
 * of dy with x, 0 past the longest sequence.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const fftConvBackward = gradientCall(backwardPlan);

/** {@link fftConvBackward} on the calling thread. */
export const fftConvBackwardSync = gradientCallSync(backwardPlan);
