import type { Tensor, TensorLike } from '../tensor.js';
import { check, epsilon, flag, integer, optional, type Rules, tensor } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';
import { requireMultiple } from './sequences.js';

/** Arguments of {@link rmsNorm}. */
export interface RmsNormArgs extends Out<RmsNormResult> {
  /** (…, D). */
  x: TensorLike;
  /** (D). */
  weight?: TensorLike;
  /** (D). */
  bias?: TensorLike;
  /** Default 1e-5. */
  eps?: number;
  /** Gate, as x: norm(x·silu(z)), or norm(x)·silu(z) with normBeforeGate. */
  z?: TensorLike;
  /** Default false. */
  normBeforeGate?: boolean;
  /** The mean is over each group of so many channels; default D. */
  groupSize?: number;
  /** The weight is an offset from 1, as Gemma stores it. Default false. */
  unitOffset?: boolean;
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

export function plan(args: RmsNormArgs): Plan<RmsNormResult> {
  const { sizes, x, z, weight, bias, ...attrs } = check('rmsNorm', args, rules);
  const D = sizes.of('D');
  if (attrs.groupSize) requireMultiple('rmsNorm', 'D', D, 'groupSize', attrs.groupSize);
  const y = output(sizes, 'y', x.shape);
  const rows = y.data.length / D;
  return {
    op: 'rmsNorm',
    sizes,
    tensors: { x: reshape(x, rows, D), z: reshape(z, rows, D), weight, bias, y: reshape(y, rows, D) },
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
