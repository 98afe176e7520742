import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, epsilon, integer, optional, type Rules, type Sizes, tensor } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link layerNorm}. */
export interface LayerNormArgs extends Out<LayerNormResult> {
  /** (…, D). */
  x: TensorLike;
  /** (D). */
  weight?: TensorLike | undefined;
  /** (D). */
  bias?: TensorLike | undefined;
  /** Default 1e-5. */
  eps?: number | undefined;
  /** Mean and variance are over each group of so many channels (a group norm); default D. */
  groupSize?: number | undefined;
}

/** What {@link layerNorm} gives. */
export interface LayerNormResult {
  /** As x. */
  y: Tensor;
}

const rules = {
  x: tensor('... D'),
  weight: optional('D'),
  bias: optional('D'),
  eps: epsilon,
  groupSize: integer(1),
} satisfies Rules<LayerNormArgs>;

/** The inputs in rows of channels. */
function inputs({ sizes, x, weight, bias, ...attrs }: Checked<typeof rules> & { sizes: Sizes }) {
  const D = sizes.of('D');
  if (attrs.groupSize) requireMultiple(sizes.op, 'D', D, 'groupSize', attrs.groupSize);
  const rows = x.shape.reduce((n, s) => n * s, 1) / D;
  return { tensors: { x: reshape(x, rows, D), weight, bias }, attrs };
}

export function plan(args: LayerNormArgs): Plan<LayerNormResult> {
  const a = check('layerNorm', args, rules);
  const { tensors, attrs } = inputs(a);
  const y = output(a.sizes, 'y', a.x.shape);
  return {
    op: 'layerNorm',
    sizes: a.sizes,
    tensors: { ...tensors, y: reshape(y, ...tensors.x.shape) },
    attrs,
    result: { y },
  };
}

/**
 * Layer norm (Ba et al. 2016) over the last axis: (x − mean) / √(var + eps) · weight + bias.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function layerNorm(args: LayerNormArgs, options?: CallOptions): Promise<LayerNormResult> {
  return run(() => plan(args), options);
}

/** {@link layerNorm} on the calling thread. */
export function layerNormSync(args: LayerNormArgs): LayerNormResult {
  return runSync(plan(args));
}

/** Arguments of {@link layerNormBackward}. */
export interface LayerNormBackwardArgs extends Omit<LayerNormArgs, 'out'>, Out<LayerNormGradients> {
  /** As x: the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link layerNormBackward} gives: gradients in the shapes of the arguments that are given. */
export type LayerNormGradients = Gradients<'x', 'weight' | 'bias'>;

export function backwardPlan(args: LayerNormBackwardArgs): Plan<LayerNormGradients> {
  const { dy, ...a } = check('layerNormBackward', args, { ...rules, dy: optional('... D') });
  const native = inputs(a);
  const above = { dy: reshape(orZeros(dy, a.x.shape), ...native.tensors.x.shape) };
  return gradientPlan('layerNormBackward', a, native, above, ['x', 'weight', 'bias']);
}

/**
 * The gradients of {@link layerNorm}, by the formula: nothing of the forward is needed but its arguments.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const layerNormBackward = gradientCall(backwardPlan);

/** {@link layerNormBackward} on the calling thread. */
export const layerNormBackwardSync = gradientCallSync(backwardPlan);
