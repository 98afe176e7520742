import type { Tensor, TensorLike } from '../tensor.js';
import { type Checked, check, optional, type Rules, type Sizes, tensor, weightTypes } from './check.js';
import { type Gradients, gradientCall, gradientCallSync, gradientPlan, orZeros } from './gradient.js';
import type { Out } from './outs.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';

/** Arguments of {@link linear}. */
export interface LinearArgs extends Out<LinearResult> {
  /** (…, in); f16 and bf16 are read as they are. */
  x: TensorLike;
  /** (out, in), of any float or quantised dtype. */
  weight: TensorLike;
  /** (out). */
  bias?: TensorLike | undefined;
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

/** The inputs in rows of features, and the shape of y. */
function inputs({ sizes, x, weight, bias }: Checked<typeof rules> & { sizes: Sizes }) {
  const leading = x.shape.slice(0, -1);
  const rows = leading.reduce((n, s) => n * s, 1);
  return { tensors: { x: reshape(x, rows, sizes.of('in')), weight, bias }, shape: [...leading, sizes.of('out')], rows };
}

export function plan(args: LinearArgs): Plan<LinearResult> {
  const a = check('linear', args, rules);
  const { tensors, shape, rows } = inputs(a);
  const y = output(a.sizes, 'y', shape);
  return { op: 'linear', sizes: a.sizes, tensors: { ...tensors, y: reshape(y, rows, shape.at(-1)!) }, result: { y } };
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

/** Arguments of {@link linearBackward}. */
export interface LinearBackwardArgs extends Omit<LinearArgs, 'out'>, Out<LinearGradients> {
  /** (…, out): the gradient of y; zero when absent. */
  dy?: TensorLike | undefined;
}
/** What {@link linearBackward} gives: gradients in the shapes of the arguments that are given, in f32. */
export type LinearGradients = Gradients<'x' | 'weight', 'bias'>;

export function backwardPlan(args: LinearBackwardArgs): Plan<LinearGradients> {
  const { dy, ...a } = check('linearBackward', args, { ...rules, dy: optional('... out') });
  const { tensors, shape, rows } = inputs(a);
  const above = { dy: reshape(orZeros(dy, shape), rows, shape.at(-1)!) };
  return gradientPlan('linearBackward', a, { tensors }, above, ['x', 'weight', 'bias']);
}

/**
 * The gradients of {@link linear}: dx = dy·W, dweight = dyᵀ·x, dbias = Σ dy, all products of f32 whatever the types of x
 * and the weight.
 *
 * @throws StatespaceError ERR_SHAPE, ERR_DTYPE or ERR_ARGUMENT, naming the argument.
 */
export const linearBackward = gradientCall(backwardPlan);

/** {@link linearBackward} on the calling thread. */
export const linearBackwardSync = gradientCallSync(backwardPlan);
