import { opCatalog } from '../graph/catalog.js';
import type { Tensor } from '../tensor.js';
import type { Input, Sizes } from './check.js';
import { output, type Plan, reshape } from './run.js';

/** Gradients by the names of arguments: of those that every call has, and of those that may be absent. */
export type Gradients<Given extends string, Optional extends string = never> = {
  [K in Given as `d${K}`]: Tensor;
} & { [K in Optional as `d${K}`]?: Tensor };

/** An op's inputs as its native forms take them. */
export interface Inputs {
  tensors: Plan<unknown>['tensors'];
  attrs?: Plan<unknown>['attrs'] | undefined;
}

/**
 * The call of an op's backward form: what it takes of the forward's inputs, the gradients from above (an absent dy is
 * zero), and a new tensor for the gradient of each argument of `of` that is given.
 */
export function gradientPlan<R>(
  op: string,
  args: { sizes: Sizes },
  inputs: Inputs,
  above: Plan<unknown>['tensors'],
  of: readonly string[],
): Plan<R> {
  const description = opCatalog().get(op);
  const known = <T>(record: Record<string, T>, names: readonly { name: string }[] = []) =>
    Object.fromEntries(Object.entries(record).filter(([name]) => names.some((n) => n.name === name)));
  const tensors = known({ ...inputs.tensors, ...above }, description?.fields);
  const result: Record<string, Tensor> = {};
  for (const name of of) {
    const given = (args as unknown as Record<string, Input | undefined>)[name];
    if (!given) continue;
    const gradient = output(args.sizes, `d${name}`, given.shape);
    result[`d${name}`] = gradient;
    tensors[`d${name}`] = reshape(gradient, ...inputs.tensors[name]!.shape);
  }
  return { op, sizes: args.sizes, tensors, attrs: known(inputs.attrs ?? {}, description?.attrs), result: result as R };
}

/** What arrives from above, or zeros of that shape. */
export function orZeros(dy: Input | undefined, shape: readonly number[]): Input {
  if (dy) return dy;
  return { data: new Float32Array(shape.reduce((n, s) => n * s, 1)), shape, dtype: 'f32' };
}
