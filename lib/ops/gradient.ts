import { opCatalog } from '../graph/catalog.js';
import type { Tensor } from '../tensor.js';
import type { Input, Sizes } from './check.js';
import { type CallOptions, output, type Plan, reshape, run, runSync } from './run.js';

/** Gradients by the names of arguments: of those that every call has, and of those that may be absent. */
export type Gradients<Given extends string, Optional extends string = never> = {
  [K in Given as `d${K}`]: Tensor;
} & { [K in Optional as `d${K}`]?: Tensor };

/** Arguments under names that the type does not say, as code has them that picks an op by its name. */
type ByName<A> = string extends keyof A ? A : never;

/** The gradient of an op, off the calling thread: of arguments whose names are typed, or of any record of them. */
export interface GradientCall<Args, Result> {
  <A extends object>(args: ByName<A>, options?: CallOptions): Promise<Record<string, Tensor>>;
  (args: Args, options?: CallOptions): Promise<Result>;
}

/** {@link GradientCall} on the calling thread. */
export interface GradientCallSync<Args, Result> {
  <A extends object>(args: ByName<A>): Record<string, Tensor>;
  (args: Args): Result;
}

export const gradientCall = <A, R>(plan: (args: A) => Plan<R>): GradientCall<A, R> =>
  ((args: A, options?: CallOptions) => run(() => plan(args), options)) as GradientCall<A, R>;

export const gradientCallSync = <A, R>(plan: (args: A) => Plan<R>): GradientCallSync<A, R> =>
  ((args: A) => runSync(plan(args))) as GradientCallSync<A, R>;

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
