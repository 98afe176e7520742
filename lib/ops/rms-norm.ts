import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, epsilon, flag, integer, optional, type Rules, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link rmsNorm}. */
export interface RmsNormArgs extends Out<RmsNormResult> {
  /** (…, D). */
  x: TensorLike;
  /** (D). */
  weight?: TensorLike | undefined;
  /** (D). */
  bias?: TensorLike | undefined;
  /** Default 1e-5. */
  eps?: number | undefined;
  /** Gate, as x: norm(x·silu(z)), or norm(x)·silu(z) with normBeforeGate. */
  z?: TensorLike | undefined;
  /** Default false. */
  normBeforeGate?: boolean | undefined;
  /** The mean is over each group of so many channels; default D. */
  groupSize?: number | undefined;
  /** The weight is an offset from 1, as Gemma stores it. Default false. */
  unitOffset?: boolean | undefined;
}

/** What {@link rmsNorm} gives. */
export interface RmsNormResult {
  /** As x. */
  y: Tensor;
}

const rules = {
  x: tensor('... D'),
  weight: optional('D'),
  bias: optional('D'),
  eps: epsilon,
  z: optional('... D'),
  normBeforeGate: flag(false),
  groupSize: integer(1),
  unitOffset: flag(false),
} satisfies Rules<RmsNormArgs>;

/** The inputs in rows of channels. */
function inputs({ sizes, x, z, weight, bias, ...attrs }: Checked<typeof rules> & { sizes: Sizes }) {
  const D = sizes.of('D');
  if (attrs.groupSize) requireMultiple(sizes.op, 'D', D, 'groupSize', attrs.groupSize);
  const rows = x.shape.reduce((n, s) => n * s, 1) / D;
  return { tensors: { x: reshape(x, rows, D), z: reshape(z, rows, D), weight, bias }, attrs };
}

export function plan(args: RmsNormArgs): Plan<RmsNormResult> {
  const a = check('rmsNorm', args, rules);
  const { tensors, attrs } = inputs(a);
  const y = output(a.sizes, 'y', a.x.shape);
  return {
    op: 'rmsNorm',
    sizes: a.sizes,
    tensors: { ...tensors, y: reshape(y, ...tensors.x.shape) },
    attrs,
    result: { y },
  };
}

/**
 * Root-mean-square norm (Zhang & Sennrich 2019) over the last axis: x / √(mean(x²) + eps) · weight + bias, gated by
 * silu(z) as Mamba-2 has it.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function rmsNorm(args: RmsNormArgs, options?: CallOptions): Promise<RmsNormResult> {
  return run(() => plan(args), options);
}

/** {@link rmsNorm} on the calling thread. */
export function rmsNormSync(args: RmsNormArgs): RmsNormResult {
  return runSync(plan(args));
}

/** Arguments of {@link rmsNormBackward}. */
export interface RmsNormBackwardArgs extends Omit<RmsNormArgs, 'out'>, Out<RmsNormGradients> {
  /** As x: the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link rmsNormBackward} gives: gradients in the shapes of the arguments that are given. */
export type RmsNormGradients = Gradients<'x', 'weight' | 'bias' | 'z'>;

export function backwardPlan(args: RmsNormBackwardArgs): Plan<RmsNormGradients> {
  const { dy, ...a } = check('rmsNormBackward', args, { ...rules, dy: optional('... D') });
  const native = inputs(a);
  const above = { dy: reshape(orZeros(dy, a.x.shape), ...native.tensors.x.shape) };
  return gradientPlan('rmsNormBackward', a, native, above, ['x', 'weight', 'bias', 'z']);
}

/**
 * The gradients of {@link rmsNorm}, by the formula: nothing of the forward is needed but its arguments.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const rmsNormBackward = gradientCall(backwardPlan);

/** {@link rmsNormBackward} on the calling thread. */
export const rmsNormBackwardSync = gradientCallSync(backwardPlan);
