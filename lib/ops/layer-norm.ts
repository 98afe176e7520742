import type { Tensor, TensorLike } from '../tensor.js';
import { check, epsilon, integer, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link layerNorm}. */
export interface LayerNormArgs extends Out<LayerNormResult> {
  /** (…, D). */
  x: TensorLike;
  /** (D). */
  weight?: TensorLike;
  /** (D). */
  bias?: TensorLike;
  /** Default 1e-5. */
  eps?: number;
  /** Mean and variance are over each group of so many channels (a group norm); default D. */
  groupSize?: number;
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

function plan(args: LayerNormArgs): Plan<LayerNormResult> {
  const { sizes, x, weight, bias, ...attrs } = check('layerNorm', args, rules);
  const D = sizes.of('D');
  if (attrs.groupSize) requireMultiple('layerNorm', 'D', D, 'groupSize', attrs.groupSize);
  const y = output(sizes, 'y', x.shape);
  const rows = y.data.length / D;
  return {
    op: 'layerNorm',
    sizes,
    tensors: { x: reshape(x, rows, D), weight, bias, y: reshape(y, rows, D) },
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
