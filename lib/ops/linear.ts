import type { Tensor, TensorLike } from '../tensor.js';
import { check, optional, type Rules, tensor, weightTypes } from './check.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';

/** Arguments of {@link linear}. */
export interface LinearArgs extends Out<LinearResult> {
  /** (…, in); f16 and bf16 are read as they are. */
  x: TensorLike;
  /** (out, in), of any float or quantised dtype. */
  weight: TensorLike;
  /** (out). */
  bias?: TensorLike;
}

/** What {@link linear} gives. */
export interface LinearResult {
  /** (…, out). */
  y: Tensor;
}

const rules = {
  x: tensor('... in'),
  weight: tensor('out in', weightTypes),
  bias: optional('out'),
} satisfies Rules<LinearArgs>;

export function plan(args: LinearArgs): Plan<LinearResult> {
  const { sizes, x, weight, bias } = check('linear', args, rules);
  const [inner, out] = sizes.all('in', 'out');
  const leading = x.shape.slice(0, -1);
  const rows = leading.reduce((n, s) => n * s, 1);
  const y = output(sizes, 'y', [...leading, out]);
  return {
    op: 'linear',
    sizes,
    tensors: { x: reshape(x, rows, inner), weight, bias, y: reshape(y, rows, out) },
    result: { y },
  };
}

/**
 * y = x·Wᵀ + b over the last axis, summed in f32 whatever the weight's dtype.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export function linear(args: LinearArgs, options?: CallOptions): Promise<LinearResult> {
  return run(() => plan(args), options);
}

/** {@link linear} on the calling thread. */
export function linearSync(args: LinearArgs): LinearResult {
  return runSync(plan(args));
}
